package output_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := output.NewProgress(&b, func() int { return 60 })
	p.Show("Sending %s: %d%%", "x", 50)
	p.Show("Sending %s: %d%%", "x", 50) // Nothing new.
	p.Show("no percentage,\nbut %s", strings.Repeat("x", 99))
	p.Show("Pulling \x1b[2J")
	p.Clear()
	p.Clear()
	want := "\r\x1b[KSending x: 50% [############------------]" +
		"\r\x1b[Kno percentage, but xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" + "\r\x1b[KPulling \ufffd[2J" + "\r\x1b[K"
	if b.String() != want {
		t.Errorf("got\n%q, want\n%q", b.String(), want)
	}
	var nothing *output.Progress
	nothing.Show("x")
	nothing.Clear()
}

func TestYAML(t *testing.T) {
	in := api.ProfilesPost{Name: "p"}
	in.Config = api.ConfigMap{"yes": "true", "number": "1", "text": "a: b", "lines": "one\ntwo\n", "empty": "", "none": "null"}
	var b bytes.Buffer
	if err := output.YAML(&b, in); err != nil {
		t.Fatal(err)
	}
	want := `config:
  empty: ""
  lines: |
    one
    two
  none: "null"
  number: "1"
  text: 'a: b'
  yes: "true"
description: ""
devices: null
name: p
`
	if b.String() != want {
		t.Errorf("got\n%s, want\n%s", b.String(), want)
	}
	var back api.ProfilesPost
	if err := output.ParseYAML(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	for k, v := range in.Config {
		if back.Config[k] != v {
			t.Errorf("%s came back as %q", k, back.Config[k])
		}
	}
}

func TestParseYAML(t *testing.T) {
	for text, wrong := range map[string]string{
		"":                                    "",
		"# nothing":                           "",
		"config: {limits.cpu: 2, a: true}":    "",
		"conifg: {}":                          `unknown field "conifg": allowed are config, description, devices`,
		"Description: a":                      "", // As in JSON.
		"config: [":                           "YAML",
		"config: {1: {2: 3}}":                 "YAML",
		"config: {a: [1]}":                    `"a"`,
		"devices: {root: {size: {a: b}}}":     "size",
		"description: {a: b}":                 "description is a mapping, want a text",
		"description: 1.5":                    "description is a number, want a text",
		"config: text":                        "config is a text, want a mapping",
		"- a":                                 "the document is a list, want a mapping",
		"config:\n  a: b\n  a: c":             "already defined",
		"description: a\n---\ndescription: b": "",
	} {
		var put api.ProfilePut
		err := output.ParseYAML([]byte(text), &put)
		if (err == nil) != (wrong == "") || err != nil && (!errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), wrong)) {
			t.Errorf("%q: %v, want %q", text, err, wrong)
		}
	}
	var put api.ProfilePut
	if err := output.ParseYAMLPart[api.Profile]([]byte("used_by: []\nconfig: {limits.cpu: 2}"), &put); err != nil || put.Config["limits.cpu"] != "2" {
		t.Errorf("part: %v, %v", put, err)
	}
	if err := output.ParseYAMLPart[api.Profile]([]byte("used_by: []\ndevises: {}"), &put); !errs.Is(err, errs.Invalid) || !strings.HasSuffix(err.Error(), `unknown field "devises": allowed are config, description, devices`) {
		t.Errorf("what no profile has: %v", err)
	}
}

func TestParseFormat(t *testing.T) {
	for in, want := range map[string]output.Format{
		"table": {Name: "table", Header: true}, "csv": {Name: "csv"}, "csv,header": {Name: "csv", Header: true}, "compact,noheader": {Name: "compact"},
	} {
		if got, err := output.ParseFormat(in); err != nil || got != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "xml", "csv,", "csv,head"} {
		if _, err := output.ParseFormat(in); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestWideText(t *testing.T) {
	var b bytes.Buffer
	table := output.Table{Header: []string{"A", "B"}, Rows: [][]string{{"äöü", "1\n22"}, {"", "x"}}}
	if err := (output.Format{Name: "table", Header: true}).Write(&b, table); err != nil {
		t.Fatal(err)
	}
	want := `+-----+----+
| A   | B  |
+-----+----+
| äöü | 1  |
|     | 22 |
|     | x  |
+-----+----+
`
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
}

func TestRoom(t *testing.T) {
	table := output.Table{
		Header: []string{"ID", "MESSAGE", "LONG"},
		Rows:   [][]string{{"1", "what is said of it takes more than there is room for", strings.Repeat("x", 30)}, {"2", "short", "a b\nc"}},
	}
	for format, want := range map[output.Format]string{
		{Name: "table", Header: true, Room: 70}: `+----+-----------------------------+--------------------------------+
| ID | MESSAGE                     | LONG                           |
+----+-----------------------------+--------------------------------+
| 1  | what is said of it takes    | xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx |
|    | more than there is room for |                                |
| 2  | short                       | a b                            |
|    |                             | c                              |
+----+-----------------------------+--------------------------------+
`,
		{Name: "compact", Room: 80}: `  1  what is said of it takes more than there is  xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
     room for
  2  short                                        a b
                                                  c
`,
	} {
		var b bytes.Buffer
		if err := format.Write(&b, table); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("%v: got\n%s", format, b.String())
		}
	}
	if table.Rows[0][1] != "what is said of it takes more than there is room for" {
		t.Error("the table was changed")
	}
}
