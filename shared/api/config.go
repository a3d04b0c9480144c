package api

import (
	"encoding/json"
	"fmt"
)

// ConfigMap is a configuration: keys to values, which are strings. On the way
// in a JSON boolean or number is taken for its text, as Incus does.
type ConfigMap map[string]string

// UnmarshalJSON implements [json.Unmarshaler].
func (m *ConfigMap) UnmarshalJSON(data []byte) error {
	var plain map[string]string
	if json.Unmarshal(data, &plain) == nil { // Nearly always, and faster.
		*m = plain
		return nil
	}
	var raw map[string]any
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	if raw == nil {
		*m = nil
		return nil
	}
	out := make(ConfigMap, len(raw))
	for k, v := range raw {
		switch v := v.(type) {
		case nil:
			out[k] = ""
		case string:
			out[k] = v
		case bool, float64:
			text, err := json.Marshal(v)
			if err != nil {
				return err
			}
			out[k] = string(text)
		default:
			return fmt.Errorf("key %q: got %T, want a string", k, v)
		}
	}
	*m = out
	return nil
}

// DevicesMap is a set of devices by name.
type DevicesMap map[string]ConfigMap
