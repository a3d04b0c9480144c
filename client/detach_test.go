package client_test

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/cuib/cuib/client"
)

func TestDetachable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                                 "plain",
		"ls\x01qrest":                           "ls",
		"\x01\x01q\x01q":                        "\x01q",
		"\x01x":                                 "\x01x",
		"\x01\x01\x01\x01":                      "\x01\x01",
		"a\x01b\x01qc":                          "a\x01b",
		"q\x01\x01":                             "q\x01",
		strings.Repeat("\x01x", 1000) + "\x01q": strings.Repeat("\x01x", 1000),
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(in), "key by key": iotest.OneByteReader(strings.NewReader(in))} {
			got, err := io.ReadAll(client.Detachable(r))
			if err != nil || string(got) != want {
				t.Errorf("%q, %s: %q, %v; want %q", in, name, got, err, want)
			}
		}
	}
}
