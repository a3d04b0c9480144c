package db

import "context"

// Mentions reports whether the configuration of any instance or profile has a
// text in it, such as the name of a key in quotes. It is much less work than to
// read them all.
func Mentions(ctx context.Context, tx *Tx, text string) (bool, error) {
	found, err := query(ctx, tx, func(n *int) []any { return []any{n} },
		"SELECT EXISTS (SELECT 1 FROM instances WHERE instr(config, ?) > 0) OR EXISTS (SELECT 1 FROM profiles WHERE instr(config, ?) > 0)", text, text)
	return err == nil && len(found) == 1 && found[0] == 1, err
}
