package kit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// Property returns a field of an object of the API as text.
func Property(object any, name string) (string, error) {
	fields, err := fieldsOf(object)
	if err != nil {
		return "", err
	}
	v, ok := fields[name]
	if !ok {
		return "", errs.NotFoundf("property %q not found: there are %s", name, strings.Join(KeysOf(fields), ", "))
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case nil:
		return "", nil
	case map[string]any, []any:
		text, err := json.Marshal(v)
		return string(text), err
	}
	return fmt.Sprint(v), nil
}

// SetProperties changes fields of an object of the API; into points to it.
// Empty values are those that the fields have when nothing is said.
func SetProperties(into any, values api.ConfigMap) error {
	fields, err := fieldsOf(into)
	if err != nil {
		return err
	}
	for name, value := range values {
		switch fields[name].(type) {
		case string:
			fields[name] = value
		case bool:
			switch value {
			case "true", "false":
				fields[name] = value == "true"
			case "":
				fields[name] = false
			default:
				return errs.Invalidf("property %q: %q is neither true nor false", name, value)
			}
		case nil:
			return errs.NotFoundf("property %q not found: there are %s", name, strings.Join(settable(fields), ", "))
		default:
			return errs.Invalidf("property %q is no text: edit the object", name)
		}
	}
	data, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return errs.Invalidf("property: %w", err)
	}
	return nil
}

// settable returns the names of those fields that [SetProperties] can change.
func settable(fields map[string]any) []string {
	return slices.DeleteFunc(KeysOf(fields), func(name string) bool {
		switch fields[name].(type) {
		case string, bool:
			return false
		}
		return true
	})
}

func fieldsOf(object any) (map[string]any, error) {
	data, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	err = json.Unmarshal(data, &out)
	return out, err
}

// SetKeys sets keys; empty values unset them.
func SetKeys(config, keys api.ConfigMap) error {
	for key, value := range keys {
		if value == "" {
			delete(config, key)
		} else {
			config[key] = value
		}
	}
	return nil
}

// EditHelp is the comment above what is edited.
const EditHelp = "The configuration as YAML. Lines that begin with # are ignored.\nNothing changes if you leave the text as it is.\n"
