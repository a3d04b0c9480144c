package rest

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// overrides reads the headers of an upload that say what is to be other than
// in the backup. LXD's clients and ours encode keys and values as in a URL,
// which holds any value; Incus has words as of a shell, such as KEY=VALUE and
// DEVICE,KEY=VALUE.
func overrides(r *http.Request) (api.ConfigMap, api.DevicesMap, error) {
	config, err := headerConfig(r)
	if err != nil {
		return nil, nil, err
	}
	devices, err := headerDevices(r)
	if err != nil {
		return nil, nil, err
	}
	put := api.InstancePut{Config: config, Devices: devices}
	err = keys(r, &put)
	return put.Config, put.Devices, err
}

// encoded returns the header that is encoded as in a URL.
func encoded(r *http.Request, name string) string {
	return orDefault(r.Header.Get("X-Cuib-"+name), r.Header.Get("X-Lxd-"+name))
}

func headerConfig(r *http.Request) (api.ConfigMap, error) {
	if text := encoded(r, "Config"); text != "" {
		out, err := queryKeys(text)
		if err != nil {
			return nil, errs.Invalidf("header X-LXD-config: %w", err)
		}
		return out, nil
	}
	words, err := shellWords(r.Header.Get("X-Incus-Config"))
	if err != nil {
		return nil, errs.Invalidf("header X-Incus-config: %w", err)
	}
	out := api.ConfigMap{}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, errs.Invalidf("header X-Incus-config: got %q, want KEY=VALUE", word)
		}
		out[key] = value
	}
	return out, nil
}

func headerDevices(r *http.Request) (api.DevicesMap, error) {
	out := api.DevicesMap{}
	if text := encoded(r, "Devices"); text != "" {
		all, err := queryKeys(text)
		if err != nil {
			return nil, errs.Invalidf("header X-LXD-devices: %w", err)
		}
		for name, text := range all {
			if out[name], err = queryKeys(text); err != nil {
				return nil, errs.Invalidf("header X-LXD-devices: device %q: %w", name, err)
			}
		}
		return out, nil
	}
	words, err := shellWords(r.Header.Get("X-Incus-Devices"))
	if err != nil {
		return nil, errs.Invalidf("header X-Incus-devices: %w", err)
	}
	for _, word := range words {
		name, pair, ok := strings.Cut(word, ",")
		key, value, is := strings.Cut(pair, "=")
		if !ok || !is {
			return nil, errs.Invalidf("header X-Incus-devices: got %q, want DEVICE,KEY=VALUE", word)
		}
		if out[name] == nil {
			out[name] = api.ConfigMap{}
		}
		out[name][key] = value
	}
	return out, nil
}

// queryKeys reads keys and values that are encoded as in a URL.
func queryKeys(text string) (map[string]string, error) {
	values, err := url.ParseQuery(text)
	out := make(map[string]string, len(values))
	for key := range values {
		out[key] = values.Get(key)
	}
	return out, err
}

// shellWords takes a line apart as a shell does: with quotes of both kinds,
// and backslashes.
func shellWords(text string) ([]string, error) {
	var p shellParser
	for _, c := range text {
		p.next(c)
	}
	if p.quote != 0 || p.escaped {
		return nil, errs.Invalidf("%q ends within quotes", text)
	}
	p.end()
	return p.words, nil
}

// A shellParser has read the beginning of a line.
type shellParser struct {
	words   []string
	word    strings.Builder
	begun   bool // There is a word, which can be empty.
	escaped bool // The last character was a backslash.
	quote   rune // That is open, or 0.
}

func (p *shellParser) next(c rune) {
	switch {
	case p.escaped:
		p.word.WriteRune(c)
		p.escaped = false
	case c == '\\' && p.quote != '\'':
		p.begun, p.escaped = true, true
	case p.quote != 0 && c == p.quote:
		p.quote = 0
	case p.quote == 0 && (c == '\'' || c == '"'):
		p.begun, p.quote = true, c
	case p.quote == 0 && (c == ' ' || c == '\t'):
		p.end()
	default:
		p.begun = true
		p.word.WriteRune(c)
	}
}

// end ends a word, if there is one.
func (p *shellParser) end() {
	if p.begun {
		p.words = append(p.words, p.word.String())
		p.word.Reset()
	}
	p.begun = false
}
