package client

import "context"

// ConfigurationKeys returns the names of the configuration keys that there
// are, by entity, such as "instance", and group. One that ends with "*" stands
// for many.
func (c *Client) ConfigurationKeys(ctx context.Context) (map[string]map[string][]string, error) {
	type group struct {
		Keys []map[string]any `json:"keys"`
	}
	doc, _, err := get[struct {
		Configs map[string]map[string]group `json:"configs"`
	}](ctx, c, "/1.0/metadata/configuration")
	if err != nil {
		return nil, err
	}
	out := map[string]map[string][]string{}
	for entity, groups := range doc.Configs {
		out[entity] = map[string][]string{}
		for name, g := range groups {
			for _, key := range g.Keys {
				for k := range key {
					out[entity][name] = append(out[entity][name], k)
				}
			}
		}
	}
	return out, nil
}
