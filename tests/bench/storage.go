package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// storage measures what is done to volumes, beside few and many snapshots.
// Where each is a copy of all, what is measured first is tiny.
func (b *bench) storage(ctx context.Context) error {
	image := b.image
	if b.driver == "dir" {
		image = b.tiny
	}
	if err := b.once(ctx, []string{b.init(), image, "b0"}); err != nil {
		return err
	}
	have := 0
	for _, n := range []int{10, 100, b.many} {
		for ; have < n; have++ {
			if err := b.once(ctx, b.snapshot("g"+strconv.Itoa(have))); err != nil {
				return err
			}
		}
		if err := b.besideSnapshots(ctx, n); err != nil {
			return err
		}
	}
	return errors.Join(b.once(ctx, deleted(0)), b.transfers(ctx))
}

func (b *bench) besideSnapshots(ctx context.Context, n int) error {
	name := func(what string) string { return fmt.Sprintf("%s, %d snapshots", what, n) }
	copied := func(i int) []string { return []string{"copy", "b0/g0", fmt.Sprintf("k%d%d", n, i)} }
	restored := func(i int) []string { return []string{"snapshot", "restore", "b0", "g" + strconv.Itoa(i%n)} }
	return b.steps(ctx, []step{
		{name: name("snapshot"), measured: func(i int) []string { return b.snapshot("x" + strconv.Itoa(i)) }},
		{name: name("delete a snapshot"), measured: func(i int) []string { return []string{"snapshot", "delete", "b0", "x" + strconv.Itoa(i)} }},
		{name: name("copy from snapshot"), measured: copied},
		{name: name("delete a copy"), measured: func(i int) []string { return []string{"delete", fmt.Sprintf("k%d%d", n, i)} }},
		{name: name("restore"), measured: restored},
		{name: name("info"), measured: func(int) []string { return []string{"info", "b0"} }},
	})
}

// transfers measures what moves all data, beside what the host's own programs
// take for as much.
func (b *bench) transfers(ctx context.Context) error {
	dir, err := os.MkdirTemp(b.host.dir, "bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := errors.Join(b.once(ctx, []string{"storage", "create", "plain", "dir"}), b.once(ctx, []string{b.init(), b.image, "b0"})); err != nil {
		return err
	}
	archive := filepath.Join(dir, "b0.tar.zst")
	again := func(args ...string) func(int) []string { return func(int) []string { return args } }
	err = b.steps(ctx, []step{
		{name: "export, zstd", measured: again("export", "b0", archive, "--compression", "zstd")},
		{name: "import", measured: func(i int) []string { return []string{"import", archive, "m" + strconv.Itoa(i)} }},
	})
	if err != nil {
		return err
	}
	return b.plain(ctx, dir)
}

// plain copies an instance of the dir pool there, and does the same with tar,
// zstd and cp. What one leaves to be written, and the inodes that a deletion
// freed, delay the next: each goes first in its turn. A copy of ours is on the
// disk when it is answered.
func (b *bench) plain(ctx context.Context, dir string) error {
	if _, err := b.do(ctx, "copy", "b0", "plain", "--storage", "plain"); err != nil {
		return err
	}
	tree := filepath.Join(b.host.dir, "pools", "plain", "data", "volumes", "instance", "plain", "cur")
	names := []string{"copy within a dir pool", "cp -a --reflink=auto of the same", "cp -a --reflink=auto; sync -f", "tar | zstd of the same"}
	took := make([][]time.Duration, len(names))
	to := filepath.Join(dir, "copy")
	each := []func() (time.Duration, error){
		func() (time.Duration, error) {
			return b.do(ctx, "copy", "plain", "plain-copy")
		},
		func() (time.Duration, error) {
			return b.host.shell(ctx, fmt.Sprintf("cp -a --reflink=auto %s %s", tree, to))
		},
		func() (time.Duration, error) {
			return b.host.shell(ctx, fmt.Sprintf("cp -a --reflink=auto %s %s-s && sync -f %s-s", tree, to, to))
		},
		func() (time.Duration, error) {
			return b.host.shell(ctx, fmt.Sprintf("tar -C %s -c --xattrs --acls . | zstd -q -f -o %s/plain.tar.zst", tree, dir))
		},
	}
	for i := range b.n {
		for k := range each {
			j := (i + k) % len(each)
			if _, err := b.host.shell(ctx, "sync -f "+dir); err != nil {
				return err
			}
			one, err := each[j]()
			if err != nil {
				return err
			}
			took[j] = append(took[j], one)
		}
		_, err := b.do(ctx, "delete", "plain-copy")
		if err := errors.Join(err, os.RemoveAll(to), os.RemoveAll(to+"-s")); err != nil {
			return err
		}
	}
	for j, name := range names {
		row(name, took[j])
	}
	return nil
}

// shell runs a command line where the daemon is, and returns how long it took.
func (h *host) shell(ctx context.Context, line string) (time.Duration, error) {
	begun := time.Now()
	out, err := h.inside(ctx, "sh", "-c", line).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return time.Since(begun), err
}
