package project_test

import (
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/project"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ project, name, instance, other string }{
		{"default", "c1", "c1", "c1"},
		{"", "c1", "c1", "c1"},
		{"p", "c1", "p_c1", "p%c1"},
		{"p.q-1", "a-b", "p.q-1_a-b", "p.q-1%a-b"},
	} {
		if got := project.Instance(tt.project, tt.name); got != tt.instance {
			t.Errorf("instance: got %q, want %q", got, tt.instance)
		}
		if got := project.Key(tt.project, tt.name); got != tt.other {
			t.Errorf("other: got %q, want %q", got, tt.other)
		}
		want := tt.project
		if want == "" {
			want = project.Default
		}
		if p, n := project.SplitInstance(tt.instance); p != want || n != tt.name {
			t.Errorf("%q is %q of %q", tt.instance, n, p)
		}
		if p, n := project.Split(tt.other); p != want || n != tt.name {
			t.Errorf("%q is %q of %q", tt.other, n, p)
		}
	}
	// Names of what is in the default project have signs of the other kind.
	for key, want := range map[string]string{"my_profile": "default", "p%my_profile": "p", "vol/snap_1": "default", "v/50%": "default", "p%v/s%s": "p"} {
		if got := project.Of(key); got != want {
			t.Errorf("%q is of %q, want %q", key, got, want)
		}
	}
	if p, n := project.SplitInstance("p_c1/s_1"); p != "p" || n != "c1/s_1" {
		t.Errorf("a snapshot is %q of %q", n, p)
	}
	if p, n := project.SplitInstance("c1/s_1"); p != "default" || n != "c1/s_1" {
		t.Errorf("a snapshot is %q of %q", n, p)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"p", "team-1", "v1.2", "0", strings.Repeat("p", 63)} {
		if err := project.CheckName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a_b", "a%b", "a/b", "a b", "-a", ".", "é", "a*", strings.Repeat("p", 64)} {
		if project.CheckName(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestURL(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/1.0/instances/c1":                                    "/1.0/instances/c1",
		"/1.0/instances/p_c1":                                  "/1.0/instances/c1?project=p",
		"/1.0/instances/p_c1/snapshots/s_1":                    "/1.0/instances/c1/snapshots/s_1?project=p",
		"/1.0/instances/c1/snapshots/s_1":                      "/1.0/instances/c1/snapshots/s_1",
		"/1.0/profiles/p%25my_web":                             "/1.0/profiles/my_web?project=p",
		"/1.0/profiles/my_web":                                 "/1.0/profiles/my_web",
		"/1.0/storage-pools/a_b/volumes/custom/p%25v":          "/1.0/storage-pools/a_b/volumes/custom/v?project=p",
		"/1.0/storage-pools/a_b/volumes/container/p_c1":        "/1.0/storage-pools/a_b/volumes/container/c1?project=p",
		"/1.0/storage-pools/a_b/volumes/custom/my_v":           "/1.0/storage-pools/a_b/volumes/custom/my_v",
		"/1.0/operations/5ceb3edc-525d-4a59-85af-a850c2439bd4": "/1.0/operations/5ceb3edc-525d-4a59-85af-a850c2439bd4",
		"/1.0/networks/p%25lan/forwards/192.0.2.1":             "/1.0/networks/lan/forwards/192.0.2.1?project=p",
		"/1.0/images/aliases/a/b_c":                            "/1.0/images/aliases/a/b_c",
		"/1.0/instances/c1?project=p":                          "/1.0/instances/c1?project=p",
	} {
		if got := project.URL(path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`instance "p_c1" not found`:              `instance "c1" not found`,
		`volume default/p%v of instance p_c1`:    `volume default/v of instance c1`,
		`"p_c1": device "eth0": network "p%lan"`: `"c1": device "eth0": network "lan"`,
		`the app_c1 has 5p% of p`:                `the app_c1 has 5p% of p`,
		`/var/lib/cuib/run/p_c1/lxc.log`:         `/var/lib/cuib/run/c1/lxc.log`,
	} {
		if got := project.Text("p", text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	const same = `instance "p_c1" not found`
	if got := project.Text("default", same); got != same {
		t.Errorf("in the default project: %s", got)
	}
}
