package overlay

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
)

func framed(text string) string {
	return streamMagic + string([]byte{0, 0, byte(len(text) >> 8), byte(len(text))}) + text
}

func TestHeader(t *testing.T) {
	for name, tt := range map[string]struct {
		stream string
		ok     bool
	}{
		"layers":                    {framed(`{"Layers":["ab","cd"],"Upper":true}`), true},
		"a base":                    {framed(`{"Base":["ab"],"Layers":["ab","cd"]}`), true},
		"only an upper directory":   {framed(`{"Upper":true}`), true},
		"a base that was left":      {framed(`{"Base":["ab","cd"],"Layers":["ab","ef"]}`), true},
		"nothing":                   {"", false},
		"no stream":                 {"garbage that is long enough to be a header", false},
		"of nothing":                {framed(`{}`), false},
		"a layer twice":             {framed(`{"Layers":["ab","ab"]}`), false},
		"a layer that is a path":    {framed(`{"Layers":["../ab"]}`), false},
		"a layer without a name":    {framed(`{"Layers":[""]}`), false},
		"layers of the base mixed":  {framed(`{"Base":["ab","cd"],"Layers":["cd","ab"]}`), false},
		"an unknown field":          {framed(`{"Upper":true,"X":1}`), false},
		"a header that is too long": {streamMagic + "\xff\xff\xff\xff{}", false},
		"too many layers":           {framed(`{"Layers":[` + strings.Repeat(`"ab",`, 500) + `"ab"]}`), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := readHeader(strings.NewReader(tt.stream))
			if tt.ok && err != nil || !tt.ok && !errs.Is(err, errs.Invalid) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestXattrsOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		path, name, value string
		ok                bool
	}{
		{"d", opaqueAttr, "y", true},
		{"d", redirectAttr, "/a/b", true},
		{"d", redirectAttr, "b", true},
		{"f", "user.x", "anything", true},
		{".", opaqueAttr, "y", false},
		{"d", opaqueAttr, "z", false},
		{"d", redirectAttr, "/a/../b", false},
		{"d", redirectAttr, "a/b", false},
		{"d", redirectAttr, "", false},
		{"d", redirectAttr, "/", false},
		{"f", "trusted.overlay.metacopy", "", false},
		{"f", "trusted.overlay.origin", "x", false},
	} {
		if err := checkXattr(tt.path, tt.name, tt.value); tt.ok != (err == nil) {
			t.Errorf("%s of %s = %q: %v", tt.name, tt.path, tt.value, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte(framed(`{"Base":["ab"],"Layers":["ab","cd"],"Upper":true}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readHeader(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, id := range h.Layers {
			if strings.ContainsAny(id, "/.") {
				t.Errorf("layer %q", id)
			}
		}
		if n := h.common(); n > len(h.Base) || n > len(h.Layers) {
			t.Errorf("%d layers in common", n)
		}
	})
}
