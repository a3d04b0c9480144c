package db

import "context"

type setting struct{ key, value string }

// Config returns the server's configuration.
func Config(ctx context.Context, tx *Tx) (map[string]string, error) {
	all, err := query(ctx, tx, func(s *setting) []any { return []any{&s.key, &s.value} }, "SELECT key, value FROM config")
	out := make(map[string]string, len(all))
	for _, s := range all {
		out[s.key] = s.value
	}
	return out, err
}

// SetConfig sets one key of the server's configuration; an empty value
// unsets it.
func SetConfig(ctx context.Context, tx *Tx, key, value string) error {
	if value == "" {
		return exec(ctx, tx, nil, "DELETE FROM config WHERE key = ?", key)
	}
	return exec(ctx, tx, nil, "INSERT INTO config (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value)
}
