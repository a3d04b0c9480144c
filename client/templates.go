package client

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// InstanceTemplates returns the names of an instance's templates.
func (c *Client) InstanceTemplates(ctx context.Context, instance string) ([]string, error) {
	return list[[]string](ctx, c, path("instances", instance, "metadata", "templates"))
}

// InstanceTemplate returns the text of one of an instance's templates.
func (c *Client) InstanceTemplate(ctx context.Context, instance, template string) (string, error) {
	body, err := c.download(ctx, templatePath(instance, template))
	if err != nil {
		return "", err
	}
	defer body.Close()
	data, err := io.ReadAll(body)
	return string(data), err
}

// SetInstanceTemplate makes or replaces one of an instance's templates.
func (c *Client) SetInstanceTemplate(ctx context.Context, instance, template, text string) error {
	return c.send(ctx, call{method: http.MethodPost, path: templatePath(instance, template), body: strings.NewReader(text)})
}

// DeleteInstanceTemplate deletes one of an instance's templates.
func (c *Client) DeleteInstanceTemplate(ctx context.Context, instance, template string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: templatePath(instance, template)})
}

func templatePath(instance, template string) string {
	return path("instances", instance, "metadata", "templates") + "?" + url.Values{"path": {template}}.Encode()
}
