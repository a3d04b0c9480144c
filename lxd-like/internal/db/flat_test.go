package db_test

import (
	"encoding/json"
	"maps"
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/db"
)

func TestFlat(t *testing.T) {
	for text, ok := range map[string]bool{
		`{}`: true, `{"a":"1"}`: true, `{"a":"1","b.c":"é { : , }"}`: true, `{"":""}`: true,
		`{"a":"1",}`: false, `{"a":1}`: false, `{"a":"\n"}`: false, `{"a" :"1"}`: false, `{"a":"1"} `: false, `null`: false, ``: false, `{`: false, `{"a":"1"`: false,
	} {
		if _, got := db.Flat(text); got != ok {
			t.Errorf("%s: got %t", text, got)
		}
	}
}

func FuzzFlat(f *testing.F) {
	f.Add("a", "1", "b", `"\{}:,`)
	f.Add("", "", "\n", "é")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		data, err := json.Marshal(map[string]string{k1: v1, k2: v2})
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]string
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatal(err)
		}
		if got, ok := db.Flat(string(data)); ok && !maps.Equal(got, want) {
			t.Fatalf("%s became %q", data, got)
		}
	})
}
