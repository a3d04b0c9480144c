package rest

import (
	"net/http"

	"github.com/cuib/cuib/profiles"
)

// A keyDoc describes a configuration key, as user interfaces want it.
type keyDoc struct {
	Type       string `json:"type"`
	Default    string `json:"defaultdesc"`
	LiveUpdate string `json:"liveupdate"`
	Condition  string `json:"condition"`
	Short      string `json:"shortdesc"`
	Long       string `json:"longdesc"`
}

// A keyGroup is a group of keys, each a map of one entry.
type keyGroup struct {
	Keys []map[string]keyDoc `json:"keys"`
}

// getConfiguration describes the configuration keys that there are.
func (s *Server) getConfiguration(*http.Request) (response, error) {
	groups := map[string]*keyGroup{}
	for _, k := range profiles.Keys() {
		g := groups[k.Group]
		if g == nil {
			g = &keyGroup{}
			groups[k.Group] = g
		}
		live := "no"
		if k.Live {
			live = "yes"
		}
		g.Keys = append(g.Keys, map[string]keyDoc{k.Name: {
			Type: string(k.Type), Default: k.Default, LiveUpdate: live, Condition: k.Condition, Short: k.Doc, Long: k.Allowed,
		}})
	}
	return synced(map[string]any{"configs": map[string]any{"instance": groups}}), nil
}
