package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
)

// TestWrongValues gives each key and each option of a device, as the tables
// have them, values that it cannot have. Each is refused as the client's
// fault, in words that say what of, and changes nothing.
func TestWrongValues(t *testing.T) {
	h := startTiny(t)
	w := &wrong{t: t, api: newAPI(h.socket()), is: "/1.0/instances/c1"}
	w.before = w.now()
	for _, k := range profiles.Keys() {
		w.key(k)
	}
	for _, d := range profiles.DeviceTypes() {
		for _, o := range append(d.Options, userOption) {
			w.option(d, o)
		}
		w.refusesAll(device(d.Name, "no.such.option", "x"), `device "d1": `, "no.such.option")
	}
	w.names()
	w.refusals()
	t.Logf("%d values were refused", w.count)
}

// userOption is what devices of all types have.
var userOption = profiles.Option{Key: profiles.Key{Name: "user.x"}}

// wrong gives an instance wrong values.
type wrong struct {
	t      *testing.T
	api    *apiClient
	is     string // The instance's URL.
	before string
	count  int
}

// now is all that there is to know of the instance, and of the profiles.
func (w *wrong) now() string {
	w.t.Helper()
	var in, all json.RawMessage
	err := errors.Join(
		w.api.call(http.MethodGet, w.is, nil, &in),
		w.api.call(http.MethodGet, "/1.0/profiles?recursion=1", nil, &all))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(in) + string(all)
}

// same fails if something has changed.
func (w *wrong) same(what string) {
	w.t.Helper()
	if got := w.now(); got != w.before {
		w.t.Errorf("%s has changed something: now it is\n%s\nand was\n%s", what, got, w.before)
		w.before = got
	}
}

func option(name, value string) map[string]any {
	return map[string]any{"config": map[string]string{name: value}}
}

func device(kind, name, value string) map[string]any {
	return map[string]any{"devices": map[string]any{"d1": map[string]string{"type": kind, name: value}}}
}

// refuses makes a change of the instance that must be refused, in words that
// have parts.
func (w *wrong) refuses(change map[string]any, parts ...string) {
	w.t.Helper()
	w.refusesOf(w.changed(change)[:1], parts)
}

// refusesAll is refuses for a profile and for a new instance, too.
func (w *wrong) refusesAll(change map[string]any, parts ...string) {
	w.t.Helper()
	w.refusesOf(w.changed(change), parts)
}

type changeRequest struct {
	method, path string
	body         map[string]any
}

func (w *wrong) changed(change map[string]any) []changeRequest {
	post := map[string]any{"name": "c2", "source": map[string]string{"type": "image", "alias": "tiny"}}
	maps.Copy(post, change)
	return []changeRequest{
		{http.MethodPatch, w.is, change},
		{http.MethodPatch, "/1.0/profiles/default", change},
		{http.MethodPost, "/1.0/instances", post},
	}
}

func (w *wrong) refusesOf(all []changeRequest, parts []string) {
	w.t.Helper()
	for _, r := range all {
		w.count++
		err := w.api.call(r.method, r.path, r.body, nil)
		if err == nil || !strings.HasSuffix(err.Error(), "(HTTP 400)") {
			w.t.Errorf("%s %s %s: %.300v", r.method, r.path, brief(r.body), err)
			continue
		}
		if len(err.Error()) > 4000 {
			w.t.Errorf("%s %s %s: the error is %d bytes long", r.method, r.path, brief(r.body), len(err.Error()))
		}
		for _, part := range parts {
			if !strings.Contains(err.Error(), part) {
				w.t.Errorf("%s %s %s: %v, and does not have %q", r.method, r.path, brief(r.body), err, part)
			}
		}
	}
}

func brief(body any) string { return fmt.Sprintf("%.90q", fmt.Sprint(body)) }

// key gives a key all values that it cannot have.
func (w *wrong) key(k profiles.Key) {
	w.t.Helper()
	name := exampleOf(w.t, k.Name)
	if k.OwnOnly && k.Allowed == "" {
		return // What only the daemon changes, who sends it says in vain.
	}
	w.refusesAll(option(name, "\x00"), wording(k, name, "\x00")...)
	for _, value := range wrongValues(k) {
		w.refuses(option(name, value), wording(k, name, value)...)
	}
	w.same(k.Name)
}

func (w *wrong) option(d profiles.DeviceType, o profiles.Option) {
	w.t.Helper()
	w.refusesAll(device(d.Name, o.Name, "\x00"), wording(o.Key, o.Name, "\x00")...)
	for _, value := range wrongValues(o.Key) {
		w.refuses(device(d.Name, o.Name, value), append(wording(o.Key, o.Name, value), `device "d1"`)...)
	}
	w.same(d.Name + " " + o.Name)
}

// wording is what a refusal has: what is wrong, how it begins, what is allowed.
func wording(k profiles.Key, name, value string) []string {
	if k.OwnOnly {
		return []string{name} // A profile can have it with no value.
	}
	quoted := strconv.Quote(value)
	switch {
	case strings.Contains(value, "\n"): // It may be about one of the lines.
		quoted = "got "
	case len(value) > 200:
		quoted = quoted[:100]
	}
	return []string{name, quoted, "want "}
}

// exampleOf returns a name that a pattern has.
func exampleOf(t *testing.T, pattern string) string {
	t.Helper()
	for _, text := range []string{"x", "net.x", "eth0"} {
		name := strings.ReplaceAll(pattern, "*", text)
		if profiles.ValidateOptions(map[string]string{name: ""}) == nil {
			return name
		}
	}
	t.Fatalf("no example of %s", pattern)
	return ""
}

// enumeration is a row's list of all values that are allowed.
var enumeration = regexp.MustCompile(`^[a-z-]+(, [a-z-]+)*( or [a-z-]+)?$`)

// wrongValues returns values that a row cannot have, by its type and by the
// words for what it can have.
func wrongValues(k profiles.Key) []string {
	all := []string{"a\x00b", strings.Repeat("x", 5000)}
	switch k.Type {
	case profiles.Bool:
		return append(all, "maybe", "2", "true\n", " true", "ｔrue", "-")
	case profiles.Integer:
		return append(all, "abc", "1.5", "1e3", "0x10", " 1", "1 ", "--1", "1\n2", "1;2", "٣",
			"99999999999999999999", "-99999999999999999999")
	case profiles.String, profiles.Blob:
	}
	all[1] = strings.Repeat("x", 512<<10+1)
	if k.Type == profiles.Blob || k.Allowed == "" {
		return all
	}
	all = append(all, "a\nb", "a\rb", "\nlxc.hook.start = /bin/true")
	if enumeration.MatchString(k.Allowed) {
		first, _, _ := strings.Cut(k.Allowed, ",")
		all = append(all, "nonsense", strings.ToUpper(first[:1])+first[1:]+"x", first+" ", "1")
	}
	for word, values := range map[string][]string{
		"a size":      {"12x", "-1MiB", "1 Mi B", "1KiBB", "1.5.5GiB", "99999999999999999999B", "MiB"},
		"path":        {"relative", "/a/../b", "..", "../x", "/a\n/b"},
		"percentage":  {"101%", "0%", "-5%", "%", "1.5.5%"},
		"an address":  {"zz:66:6a:01:02:03", "10:66:6a:01:02", "11:66:6a:01:02:03"},
		"IPv4":        {"999.1.1.1", "1.2.3", "fd00::1"},
		"IPv6":        {"::g", "1.2.3.4", "fe80::1%eth0"},
		"octal":       {"0999", "rwx", "07777777"},
		"the name of": {strings.Repeat("x", 200), "a/b", "../x", "a b", ".."},
	} {
		if strings.Contains(k.Allowed, word) && !strings.Contains(k.Allowed, " or ") {
			all = append(all, values...)
		}
	}
	return all
}

// names gives names of keys that there are not.
func (w *wrong) names() {
	w.t.Helper()
	for _, name := range []string{
		"no.such", "limits.cpuu", "limits.", ".", "a b", "limits.cpu\n", "LIMITS.CPU", "../limits.cpu", "limits.cpu\x00",
		"user.a\nb", "user." + strings.Repeat("x", 300), strings.Repeat("x", 512<<10), "environment.A=B",
		"linux.sysctl.../x", "linux.sysctl.kernel.panic", "linux.sysctl.net.x\n", "systemd.credential.a/b",
	} {
		quoted := strconv.Quote(name)
		w.refuses(option(name, "1"), quoted[:min(len(quoted)-1, 100)])
	}
	for _, kind := range []string{"", "no.such", "DISK", "disk\n", strings.Repeat("x", 512<<10)} {
		w.refuses(device(kind, "path", "/x"), `device "d1": `, "want one of disk, ")
	}
	for _, name := range []string{"", "a b", "a/b", "..", "a\nb", strings.Repeat("x", 100)} {
		w.refuses(map[string]any{"devices": map[string]any{name: map[string]string{"type": "none"}}}, "device name")
	}
	w.same("a name")
}

// refusals gives what no instance can have, and is to hear why.
func (w *wrong) refusals() {
	w.t.Helper()
	for _, r := range profiles.Refusals() {
		value := "x"
		if r.Value != "" {
			value = strings.ReplaceAll(r.Value, "*", "x")
		}
		switch {
		case r.Device == "" && strings.HasPrefix(r.Name, "volatile."):
			continue // What only the daemon changes, who sends it says in vain.
		case r.Device == "":
			w.refuses(option(strings.ReplaceAll(r.Name, "*", "x"), value), strings.TrimSuffix(r.Name, "*"), value, r.Why)
		case r.Name == "":
			w.refuses(device(r.Device, "x", "y"), r.Device, r.Why)
		case hasType(r.Device):
			name := strings.ReplaceAll(r.Name, "*", "x")
			w.refuses(device(r.Device, name, value), `device "d1": `, name, value, r.Why)
		}
	}
	w.same("what cannot be had")
}

func hasType(name string) bool {
	for _, d := range profiles.DeviceTypes() {
		if d.Name == name {
			return true
		}
	}
	return false
}
