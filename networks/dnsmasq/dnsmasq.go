// Package dnsmasq runs one dnsmasq for each network that wants DHCP or DNS.
//
// The process outlives the daemon and is found again by its command line. The
// configuration file on disk is always the one that the process was started
// with, so that it can be compared with the wanted one. Hosts are files in
// directories, of which dnsmasq watches that for DHCP: a new one is known at once,
// without a signal.
package dnsmasq

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/networks"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/run"
)

// Apply makes the network's dnsmasq run, or not, as cfg says. The interface
// exists and has the given index. A process that runs with the same
// configuration goes on.
func Apply(ctx context.Context, cfg networks.Config, index int) error {
	if !wanted(cfg) {
		return Remove(ctx, cfg)
	}
	if err := run.Look("dnsmasq", "dnsmasq-base"); err != nil {
		return err
	}
	text, err := config(cfg, index)
	if err != nil {
		return err
	}
	forgot, err := prepare(cfg)
	if err != nil {
		return fmt.Errorf("write the hosts for dnsmasq: %w", err)
	}
	p, err := Find(cfg)
	if err != nil {
		return err
	}
	if p == nil {
		if p, err = search(cfg); err != nil { // It would be in the way.
			return err
		}
	}
	if p == nil {
		return start(ctx, cfg, text)
	}
	defer p.Close()

	old, err := os.ReadFile(filepath.Join(cfg.Dir, confFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if string(old) != text {
		if err := test(ctx, cfg, text); err != nil {
			return err
		}
		if err := p.stop(ctx); err != nil {
			return err
		}
		return start(ctx, cfg, text)
	}
	if forgot {
		return p.reload()
	}
	return nil
}

// prepare is [setHosts] in a directory without what a crash has left.
func prepare(cfg networks.Config) (forgot bool, err error) {
	if err := forgetTrial(cfg.Dir); err != nil {
		return false, err
	}
	return setHosts(cfg)
}

// Remove ends the network's dnsmasq and deletes its files.
func Remove(ctx context.Context, cfg networks.Config) error {
	if err := Stop(ctx, cfg); err != nil {
		return err
	}
	for _, name := range []string{confFile, pidFile, leaseFile, hostsDir, namesDir} {
		if err := os.RemoveAll(filepath.Join(cfg.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// Stop ends the network's dnsmasq, if it runs. What it has given out stays.
func Stop(ctx context.Context, cfg networks.Config) error {
	p, err := Find(cfg)
	if p == nil || err != nil {
		return err
	}
	defer p.Close()
	return p.stop(ctx)
}

// Intact reports whether dnsmasq runs if the network wants it.
func Intact(cfg networks.Config) (bool, error) {
	if !wanted(cfg) {
		return true, nil
	}
	p, err := Find(cfg)
	if p == nil || err != nil {
		return false, err
	}
	p.Close()
	return true, nil
}

// reload makes the process read its hosts anew.
func (p *Process) reload() error {
	if err := p.signal(unix.SIGHUP); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("reload dnsmasq: %w", err)
	}
	return nil
}

// start starts dnsmasq, which becomes a daemon once its sockets are open.
func start(ctx context.Context, cfg networks.Config, text string) error {
	if err := searchable(cfg.Dir); err != nil {
		return err
	}
	if err := writeFile(cfg.Dir, confFile, text); err != nil {
		return err
	}
	if err := launch(ctx, cfg); err != nil {
		return fmt.Errorf("start the DHCP and DNS server of %s: %w", cfg.Name, blame(cfg, err))
	}
	return nil
}

// How often dnsmasq is started where its ports are taken, and how long it is
// waited in between.
const (
	attempts = 25
	moment   = 20 * time.Millisecond
)

// launch starts dnsmasq. One that was just killed is not found any more a moment
// before the kernel closes its sockets.
func launch(ctx context.Context, cfg networks.Config) error {
	for n := 1; ; n++ {
		_, err := run.Cmd(ctx, "dnsmasq", confFlag(cfg))
		failed, ok := errors.AsType[*run.Error](err)
		if !ok || n == attempts || !strings.Contains(failed.Stderr, "already in use") {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(moment):
		}
	}
}

// test has dnsmasq check a configuration before anything is stopped for it.
func test(ctx context.Context, cfg networks.Config, text string) error {
	if err := writeFile(cfg.Dir, trialFile, text); err != nil {
		return err
	}
	path := filepath.Join(cfg.Dir, trialFile)
	defer func() { _ = os.Remove(path) }()

	_, err := run.Cmd(ctx, "dnsmasq", "--test", "--conf-file="+path)
	return blame(cfg, err)
}

// trialFile has a configuration that is checked.
const trialFile = confFile + ".new"

// forgetTrial removes what a crash has left of one.
func forgetTrial(dir string) error {
	for _, name := range []string{trialFile, halfWritten(trialFile), halfWritten(confFile)} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// blame returns the user's error if err is dnsmasq's about its configuration,
// a part of which is the user's.
func blame(cfg networks.Config, err error) error {
	const badConfiguration = 1 // dnsmasq's exit status.
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != badConfiguration || cfg.Raw == "" {
		return err
	}
	failed, ok := errors.AsType[*run.Error](err)
	if !ok {
		return err
	}
	return errs.Invalidf("raw.dnsmasq is not valid: %s", strings.TrimSpace(strings.TrimPrefix(failed.Stderr, "dnsmasq: ")))
}

// searchable reports whether the user that dnsmasq becomes can reach dir.
func searchable(dir string) error {
	for ; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return errs.Newf(errs.Unsupported, "dnsmasq cannot read its hosts: the user nobody cannot search the directory %s (chmod o+x it)", dir)
		}
		if dir == "/" {
			return nil
		}
	}
}

// halfWritten is what a file is called until it is whole.
func halfWritten(name string) string { return "." + name + "~" }

// writeFile replaces a file at once. What is not finished has a name that
// dnsmasq does not read.
func writeFile(dir, name, text string) error {
	tmp := filepath.Join(dir, halfWritten(name))
	err := os.WriteFile(tmp, []byte(text), 0o644)
	if err == nil {
		err = os.Chmod(tmp, 0o644) // Whatever the umask is.
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(dir, name))
	}
	if err != nil { // Such as for a full disk.
		_ = os.Remove(tmp) // It may not be there.
	}
	return err
}
