package project_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/project"
)

func TestLink(t *testing.T) {
	seen := map[string]string{}
	for _, key := range []string{"lan", "lan-name-of-15b", "p%lan", "q%lan", "p%lan-name-of-15b", "p%lan-name-of-15c", "p.q-r%l"} {
		link := project.Link(key)
		if project.Of(key) == project.Default && link != key {
			t.Errorf("link of %q is %q, want its name", key, link)
		}
		if len(link) > 15 || strings.ContainsAny(link, "%_/ ") {
			t.Errorf("link of %q is %q, which no interface can be called", key, link)
		}
		if link != project.Link(key) || seen[link] != "" {
			t.Errorf("link of %q is %q, that of %q too", key, link, seen[link])
		}
		seen[link] = key
	}
	// It is on the disk, and in the kernel of a host whose daemon is upgraded.
	if got, want := project.Link("p%lan"), "lan-hwwevq"; got != want {
		t.Errorf("link of p%%lan is %q, want %q", got, want)
	}
}

func TestQuote(t *testing.T) {
	for key, want := range map[string]string{"lan": `"lan"`, "p%lan": `"lan" of project "p"`} {
		if got := project.Quote(key); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	for key, want := range map[string]string{"c1": `"c1"`, "p_c1": `"c1" of project "p"`} {
		if got := project.QuoteInstance(key); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
