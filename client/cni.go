package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

// ExamineInstance asks the network plugins of a running instance whether its
// interfaces are as they have made them, and returns what was asked.
func (c *Client) ExamineInstance(ctx context.Context, name string) ([]api.NetworkCheck, error) {
	env, err := c.call(ctx, call{method: http.MethodPost, path: path("instances", name, "doctor")})
	if err != nil {
		return nil, err
	}
	var checks []api.NetworkCheck
	if err := json.Unmarshal(env.Metadata, &checks); err != nil {
		return nil, fmt.Errorf("decode the answer: %w", err)
	}
	return checks, nil
}
