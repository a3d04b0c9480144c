package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/cuib/cuib/shared/api"
)

// RecoverRequest names the pools to look through for what the database does
// not know. Those that it does not know either are told whole.
type RecoverRequest struct {
	Pools []api.StoragePoolsPost `json:"pools"`
}

// Recoverable is what pools have that the database does not know.
type Recoverable struct {
	UnknownVolumes   []UnknownVolume
	DependencyErrors []string // What is missing for it to be registered.
}

// An UnknownVolume is an instance or a custom volume that can be registered.
type UnknownVolume struct {
	Name          string `json:"name"`
	Type          string `json:"type"` // container or custom
	SnapshotCount int    `json:"snapshotCount"`
	Project       string `json:"project"`
	Pool          string `json:"pool"`
}

// FindRecoverable looks through pools for what the database does not know.
func (c *Client) FindRecoverable(ctx context.Context, req RecoverRequest) (Recoverable, error) {
	var out Recoverable
	env, err := c.call(ctx, call{method: http.MethodPost, path: "/internal/recover/validate", body: req})
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(env.Metadata, &out); err != nil {
		return out, fmt.Errorf("decode what can be recovered: %w", err)
	}
	return out, nil
}

// Recover registers what [Client.FindRecoverable] finds.
func (c *Client) Recover(ctx context.Context, req RecoverRequest) error {
	return c.send(ctx, call{method: http.MethodPost, path: "/internal/recover/import", body: req})
}
