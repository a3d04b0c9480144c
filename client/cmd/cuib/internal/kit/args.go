package kit

import (
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// Pairs parses arguments of the form key=value.
func Pairs(args []string) (api.ConfigMap, error) {
	out := api.ConfigMap{}
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		if !ok || key == "" {
			return nil, errs.Invalidf("%q is not of the form key=value", a)
		}
		out[key] = value
	}
	return out, nil
}

// Settings parses the arguments of commands that set keys: key=value ..., or
// the older key value. The value "-" is what the standard input holds.
func (e *Env) Settings(args []string) (api.ConfigMap, error) {
	if len(args) == 2 && !strings.Contains(args[0], "=") {
		args = []string{args[0] + "=" + args[1]}
	}
	out, err := Pairs(args)
	if err != nil {
		return nil, err
	}
	for _, key := range KeysOf(out) {
		if out[key] != "-" {
			continue
		}
		data, err := io.ReadAll(e.In)
		if err != nil {
			return nil, err
		}
		out[key] = string(data)
	}
	return out, nil
}

// piped returns what is piped or redirected to the standard input, or nothing
// if a person or nobody is at it.
func (e *Env) piped() ([]byte, error) {
	info, err := e.In.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice != 0 || info.Mode()&os.ModeSocket != 0 {
		return nil, nil //nolint:nilerr // A closed standard input holds nothing.
	}
	return io.ReadAll(e.In)
}

// PipedYAML decodes YAML on the standard input, if there is any.
func (e *Env) PipedYAML(into any) error {
	data, err := e.piped()
	if err != nil || len(data) == 0 {
		return err
	}
	return output.ParseYAML(data, into)
}

// KeysOf returns the sorted keys of m.
func KeysOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// NamesOf returns what name says of each element, in their order.
func NamesOf[T any](all []T, name func(T) string) []string {
	names := make([]string, len(all))
	for i, t := range all {
		names[i] = name(t)
	}
	return names
}
