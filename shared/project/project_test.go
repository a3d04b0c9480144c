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
		`instance/p_c1@snap0: busy`:              `instance/c1@snap0: busy`,
		`in use by p_c1, p_c2; and 'p%my_v'.`:    `in use by c1, c2; and 'my_v'.`,
		`in use by ["p_c1" "p_c2"] and [p%a]`:    `in use by ["c1" "c2"] and [a]`,
		`"default/p%v": snapshot "p_c1/s_1"`:     `"default/v": snapshot "c1/s_1"`,
		`p_c1: it runs (p_c2 too)`:               `c1: it runs (c2 too)`,
		`used by /1.0/instances/p_c1`:            `used by /1.0/instances/c1`,
	} {
		if got := project.Text("p", text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
	// What others call something is not ours to change.
	for _, text := range []string{
		`open /var/lib/cuib/run/p_c1/lxc.log: no such file`,
		`open "/srv/a p_b/p_c": is a directory`,
		`/p_x/p%y: not found`,
		`open "p_notes.txt": not found`,
		`p_my_file and p_1 and p_: not found`,
		`mirror https://example.org/p_c1/p%20q does not answer`,
		`get http://p_c1/x`,
		`exec: p%20%20: format`,
		`load: 50p%, "p%" and p%`,
	} {
		if got := project.Text("p", text); got != text {
			t.Errorf("%s: got %s", text, got)
		}
	}
	const same = `instance "p_c1" not found`
	if got := project.Text("default", same); got != same {
		t.Errorf("in the default project: %s", got)
	}
}
