package main

import (
	"bufio"
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/lxd-like/internal/host"
	"github.com/cuib/cuib/lxd-like/serverkeys"
	"github.com/cuib/cuib/networks/cni"
	"github.com/cuib/cuib/shared/api"
	release "github.com/cuib/cuib/shared/version"
	"github.com/cuib/cuib/storage"
)

// environmentFunc describes host and daemon.
type environmentFunc = func(context.Context) (api.ServerEnvironment, error)

// environment describes host and daemon. Its fixed part is made once.
func environment(d *db.DB, types map[string]storage.Type) environmentFunc {
	fixed := hostEnvironment()
	return func(ctx context.Context) (api.ServerEnvironment, error) {
		env := fixed
		err := d.View(ctx, func(ctx context.Context, tx *db.Tx) error {
			pools, err := db.Pools(ctx, tx)
			used := map[string]bool{}
			for _, p := range pools {
				used[p.Driver] = true
			}
			names := slices.Sorted(maps.Keys(used))
			env.Storage = strings.Join(names, " | ")
			var versions []string
			for _, name := range names {
				versions = append(versions, types[name].Version(ctx))
			}
			env.StorageVersion = strings.Join(versions, " | ")
			return err
		})
		for _, name := range slices.Sorted(maps.Keys(types)) {
			if t := types[name]; t.Check(ctx) == nil {
				env.StorageDrivers = append(env.StorageDrivers, api.ServerStorageDriver{Name: name, Version: t.Version(ctx)})
			}
		}
		return env, err
	}
}

func hostEnvironment() api.ServerEnvironment {
	env := api.ServerEnvironment{
		Addresses: []string{}, Driver: "lxc", Firewall: "nftables",
		KernelFeatures: map[string]string{}, LXCFeatures: map[string]string{},
		Project: "default", Server: "cuib", ServerEventMode: "full-mesh", ServerPid: os.Getpid(),
		ServerVersion: release.Number, StorageDrivers: []api.ServerStorageDriver{},
	}
	env.DriverVersion = liblxcVersion()
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		env.Kernel = unix.ByteSliceToString(u.Sysname[:])
		env.KernelArchitecture = unix.ByteSliceToString(u.Machine[:])
		env.KernelVersion = unix.ByteSliceToString(u.Release[:])
		env.Architectures = []string{env.KernelArchitecture}
		env.ServerName = unix.ByteSliceToString(u.Nodename[:])
	}
	env.OSName, env.OSVersion = osRelease("/etc/os-release")
	return env
}

// resources describes the host's hardware.
func resources() (api.Resources, error) { return host.Local().Resources() }

// liblxcVersion finds which liblxc there is: the name of its file has another
// number, so the package says it.
func liblxcVersion() string {
	const prefix = "Version: "
	status, err := os.Open("/var/lib/dpkg/status")
	if err != nil {
		return ""
	}
	defer status.Close()
	lines := bufio.NewScanner(status)
	ours := false
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "Package: "):
			ours = line == "Package: liblxc1" || line == "Package: liblxc1t64"
		case ours && strings.HasPrefix(line, prefix):
			number, _, _ := strings.Cut(strings.TrimPrefix(line, prefix), "-")
			if _, rest, ok := strings.Cut(number, ":"); ok {
				number = rest
			}
			return number
		}
	}
	return ""
}

func osRelease(path string) (name, version string) {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		value = strings.Trim(value, `"'`)
		switch key {
		case "NAME":
			name = value
		case "VERSION_ID":
			version = value
		}
	}
	return name, version
}

// settings keeps the server's configuration.
type settings struct{ db *db.DB }

// Config returns the server's configuration.
func (s settings) Config(ctx context.Context) (map[string]string, error) {
	var out map[string]string
	err := s.db.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		var err error
		out, err = db.Config(ctx, tx)
		return err
	})
	return out, err
}

// backupAlgorithm is the compression of backups that ask for none.
func (s settings) backupAlgorithm(ctx context.Context) (string, error) {
	config, err := s.Config(ctx)
	return serverkeys.Value(config, serverkeys.BackupCompression), err
}

// pluginDirs are the directories of network plugins.
func (s settings) pluginDirs(ctx context.Context) (cni.Dirs, error) {
	config, err := s.Config(ctx)
	return cni.Dirs{
		Config:  serverkeys.Value(config, serverkeys.CNIConfigDir),
		Plugins: serverkeys.Dirs(serverkeys.Value(config, serverkeys.CNIPluginDirs)),
	}, err
}

// SetConfig changes keys; an empty value unsets one.
func (s settings) SetConfig(ctx context.Context, values map[string]string) error {
	return s.db.Do(ctx, func(ctx context.Context, tx *db.Tx) error {
		for key, value := range values {
			if err := db.SetConfig(ctx, tx, key, value); err != nil {
				return err
			}
		}
		return nil
	})
}
