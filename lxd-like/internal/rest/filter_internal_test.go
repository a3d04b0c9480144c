package rest

import (
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var filtered = []api.Instance{
	{Name: "web", Status: "Running", InstancePut: api.InstancePut{
		Config: api.ConfigMap{"user.tier": "front end", "image.os": "Debian", "limits.cpu": "2"}, Profiles: []string{"default"},
		Devices: api.DevicesMap{"root": {"path": "/", "pool": "fast"}},
	}},
	{Name: "web2", Status: "Stopped", InstancePut: api.InstancePut{Config: api.ConfigMap{"image.os": "alpine"}, Ephemeral: true}},
	{Name: "db", Status: "Running", InstancePut: api.InstancePut{Config: api.ConfigMap{"user.tier": "back", "image.os": "debian"}}},
}

func TestFilter(t *testing.T) {
	tests := map[string]string{ // Names that are left.
		"":                                  "web web2 db",
		"name eq web":                       "web",
		"name = web":                        "web",
		"name=web":                          "web",
		"name!=web":                         "web2 db",
		"name ne web":                       "web2 db",
		"name eq WEB":                       "web",
		"name eq web.*":                     "web web2",
		"name eq ^(web|web.*)$":             "web web2",
		"(name eq ^(web|db)$)":              "web db",
		"name eq we":                        "",
		"name eq [":                         "",
		"status eq running":                 "web db",
		"name eq web and status eq Stopped": "",
		"name eq web or status eq Stopped":  "web web2",
		"not status eq Stopped":             "web db",
		"not (not status eq Stopped)":       "web2",
		"ephemeral eq true":                 "web2",
		"config.user.tier eq back":          "db",
		`config.user.tier eq "front end"`:   "web",
		"config.user.tier='front end'":      "web",
		"config.user.tier ne back":          "web",
		"config.image.os eq debian":         "web db",
		"devices.root.pool eq fast":         "web",
		"devices.root.path eq /":            "web",
		"config.none eq x":                  "",
		// From left to right: (running or web2) and debian.
		"status eq running or name eq web2 and config.image.os eq debian":  "web db",
		"config.image.os eq debian and (name eq db or name eq web2)":       "db",
		"(name eq db or (name eq web2)) and not config.image.os eq alpine": "db",
		"not (name eq db or name eq web2)":                                 "web",
		"( name eq db ) or ( name eq web2 )":                               "web2 db",
		`(name eq "db") or (config.user.tier eq "front end" )`:             "web db",
		"name eq db OR name EQ web":                                        "web db",
	}
	for text, want := range tests {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/?filter="+url.QueryEscape(text), nil)
		got, err := selected(r, filtered)
		names := []string{}
		for _, in := range got {
			names = append(names, in.Name)
		}
		if err != nil || strings.Join(names, " ") != want {
			t.Errorf("%s: got %q, %v, want %q", text, names, err, want)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for text, want := range map[string]string{
		"name":                           "nothing follows \"name\": want eq or ne",
		"name eq":                        "want eq or ne",
		"name like web":                  "want eq or ne",
		"name eq web and":                "ends where a clause is due",
		"name eq web name eq db":         "want and, or",
		"(name eq web":                   ") missing",
		"name eq web)":                   ") too many",
		`name eq "web`:                   "not closed",
		"not":                            "ends where a clause is due",
		"(":                              "ends where a clause is due",
		"((name eq a) and (name eq b)))": ") too many",
	} {
		_, err := parseFilter(text)
		if text == "name eq" { // It compares with nothing.
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want …%s…", text, err, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(`not (name eq "a b" or config.user.x!='c') and (d=e)`)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := parseFilter(text); err == nil {
			got(map[string]any{"name": "a"})
		} else if !errs.Is(err, errs.Invalid) {
			t.Error(err)
		}
	})
}

func TestMerge(t *testing.T) {
	current := api.InstancePut{
		Architecture: "x86_64", Config: api.ConfigMap{"a": "1", "b": "2"}, Profiles: []string{"default"},
		Devices: api.DevicesMap{"eth0": {"type": "nic", "network": "n"}}, Ephemeral: true,
	}
	tests := map[string]struct {
		body string
		want func(api.InstancePut) bool
	}{
		"nothing":        {`{}`, func(p api.InstancePut) bool { return p.Ephemeral && p.Config["a"] == "1" && len(p.Profiles) == 1 }},
		"key":            {`{"config":{"c":"3"}}`, func(p api.InstancePut) bool { return len(p.Config) == 3 }},
		"key goes":       {`{"config":{"a":""}}`, func(p api.InstancePut) bool { _, ok := p.Config["a"]; return !ok && p.Config["b"] == "2" }},
		"null goes":      {`{"config":{"a":null},"devices":{"eth0":null}}`, func(p api.InstancePut) bool { return len(p.Config) == 1 && len(p.Devices) == 0 }},
		"number":         {`{"config":{"a":7}}`, func(p api.InstancePut) bool { return p.Config["a"] == "7" }},
		"device":         {`{"devices":{"eth0":{"type":"none"}}}`, func(p api.InstancePut) bool { return len(p.Devices["eth0"]) == 1 }},
		"list":           {`{"profiles":[]}`, func(p api.InstancePut) bool { return len(p.Profiles) == 0 }},
		"value":          {`{"ephemeral":false,"description":"d"}`, func(p api.InstancePut) bool { return !p.Ephemeral && p.Description == "d" }},
		"unknown fields": {`{"colour":"red"}`, func(p api.InstancePut) bool { return p.Ephemeral }},
	}
	for name, tt := range tests {
		r := httptest.NewRequestWithContext(t.Context(), "PATCH", "/", strings.NewReader(tt.body))
		got, err := merge(current, r)
		if err != nil || !tt.want(got) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, body := range []string{`{"config":[]}`, `{"config":{"a":{}}}`, `{"ephemeral":"yes"}`, `[]`, ``} {
		r := httptest.NewRequestWithContext(t.Context(), "PATCH", "/", strings.NewReader(body))
		if _, err := merge(current, r); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", body, err)
		}
	}
	if !slices.Equal(current.Profiles, []string{"default"}) || len(current.Config) != 2 {
		t.Errorf("current was changed: %+v", current)
	}
}
