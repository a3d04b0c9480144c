package zfs_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/testenv"
	"github.com/cuib/cuib/storage"
)

// userNamespace returns the file of one that is not the test's own.
func userNamespace(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "--user", "--map-root-user", "sh", "-c", "echo ready; exec sleep 10000")
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // It was killed.
	})
	_, err = out.Read(make([]byte, 1))
	ok(t, err)
	return fmt.Sprintf("/proc/%d/ns/user", cmd.Process.Pid)
}

// owners returns the volumes whose guests may have datasets, by what these
// have. It is none of the driver's, so that it finds what that forgets.
func owners(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for line := range strings.SplitSeq(testenv.Run(t, "zfs", "list", "-H", "-r", "-o", "name,cuib:delegated", root+"/containers"), "\n") {
		if name, id, _ := strings.Cut(line, "\t"); id != "-" {
			all[name] = root + "/delegated/" + id
		}
	}
	return all
}

// wantOwners checks that each dataset of a guest has an owner, or goes.
func wantOwners(t *testing.T, cfg storage.Config) {
	t.Helper()
	base := cfg.Source + "/delegated"
	testenv.Eventually(t, "each dataset of a guest has an owner", func() bool { // They are removed in the background too.
		var want []string
		for _, dataset := range owners(t, cfg.Source) {
			want = append(want, dataset)
		}
		all := strings.Split(testenv.Run(t, "zfs", "list", "-H", "-d", "1", "-o", "name", base), "\n")
		return !slices.ContainsFunc(all, func(name string) bool { return name != base && !slices.Contains(want, name) })
	})
}

// guests returns what the guests have made, by the volumes. The names of what
// they have it in are no part of it.
func guests(t *testing.T, root string) (all []string) {
	t.Helper()
	for name, dataset := range owners(t, root) {
		rel := strings.TrimPrefix(name, root+"/containers/")
		if strings.Contains(rel, "/") { // The history knows it too.
			continue
		}
		out, err := exec.CommandContext(t.Context(), "zfs", "list", "-H", "-r", "-t", "all", "-o", "name", dataset).Output()
		if err == nil { // It can be none yet.
			all = append(all, rel+" has"+strings.ReplaceAll(strings.ReplaceAll(string(out), dataset, ""), "\n", " "))
		}
	}
	slices.Sort(all)
	return all
}

func delegate(t *testing.T, d storage.Driver, userns string) error {
	t.Helper()
	delegator, _ := d.(storage.Delegator)
	return delegator.Delegate(t.Context(), c1, userns)
}

// give has the guest of c1 make a dataset with a snapshot that is held.
func give(t *testing.T, cfg storage.Config, d storage.Driver, userns string) {
	t.Helper()
	ok(t, delegate(t, d, userns))
	own := owners(t, cfg.Source)[cfg.Source+"/containers/c1"]
	testenv.Run(t, "zfs", "create", own+"/a")
	testenv.Run(t, "zfs", "snapshot", own+"/a@s")
	testenv.Run(t, "zfs", "hold", "keep", own+"/a@s")
	if got := guests(t, cfg.Source); !slices.Equal(got, []string{"c1 has /a /a@s "}) {
		t.Fatalf("what was made is %q", got)
	}
}

// TestFaultsDelegated is TestFaults with what is done with datasets of guests.
func TestFaultsDelegated(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	w := newWrapper(t)
	userns := userNamespace(t)
	create := func(d storage.Driver) {
		ok(t, d.Create(t.Context(), c1))
		write(t, d, c1, "one")
	}
	createFor := func(d storage.Driver) { create(d); give(t, cfg, d, userns) }
	remove := func(d storage.Driver) error { return d.Delete(t.Context(), c1) }
	for _, tt := range []struct {
		faultCase

		prepare func(storage.Driver)
	}{
		{
			faultCase{
				"delegate", func(d storage.Driver) error { return delegate(t, d, userns) },
				func(d storage.Driver) { ok(t, remove(d)); create(d) },
			},
			create,
		},
		{
			faultCase{
				"rename", func(d storage.Driver) error { return d.Rename(t.Context(), c1, c2.Name) },
				func(d storage.Driver) { ok(t, d.Rename(t.Context(), c2, c1.Name)) },
			},
			createFor,
		},
		{faultCase{"delete", remove, func(d storage.Driver) { ok(t, remove(d)); createFor(d) }}, createFor},
	} {
		t.Run(tt.name, func(t *testing.T) { w.each(t, cfg, tt.faultCase, tt.prepare) })
	}
}

// TestCopiesAreWithoutDelegated copies a volume whose guest has datasets.
func TestCopiesAreWithoutDelegated(t *testing.T) {
	newZpool(t)
	cfg := newPool(t, "cuib")
	d := openPool(t, cfg)
	delegator, _ := d.(storage.Delegator)
	ok(t, d.Create(t.Context(), c1))
	ok(t, delegate(t, d, userNamespace(t)))
	testenv.Run(t, "zfs", "create", owners(t, cfg.Source)[cfg.Source+"/containers/c1"]+"/a")
	ok(t, d.Snapshot(t.Context(), snap))
	ok(t, d.Clone(t.Context(), c2, c1))
	ok(t, d.Clone(t.Context(), c3, snap))
	want := []string{"c1 has /a "}
	if got := guests(t, cfg.Source); !slices.Equal(got, want) {
		t.Errorf("after copies guests have %q, want %q", got, want)
	}
	for _, v := range []storage.Volume{c2, c3} {
		ok(t, d.Delete(t.Context(), v))
	}
	if has, err := delegator.Delegated(t.Context(), c1); err != nil || !has {
		t.Errorf("the copies are gone, and the volume has datasets: %v, %v", has, err)
	}
	for _, v := range []storage.Volume{snap, c1} {
		ok(t, d.Delete(t.Context(), v))
	}
	wantNothing(t, cfg)
}
