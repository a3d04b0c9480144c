package kit

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/shared/errs"
)

// completionTime is how long the shell waits for names at most.
const completionTime = 2 * time.Second

// A Completer returns what can stand in place of an argument; args are those
// before it.
type Completer func(ctx context.Context, e *Env, args []string) ([]string, error)

// find runs the completer, for a short time.
func (c Completer) find(ctx context.Context, e *Env, args []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	return c(ctx, e, args)
}

// Instances completes names of instances.
func Instances(ctx context.Context, e *Env, _ []string) ([]string, error) {
	return e.Client().InstanceNames(ctx)
}

// Profiles completes names of profiles.
func Profiles(ctx context.Context, e *Env, _ []string) ([]string, error) {
	return e.Client().ProfileNames(ctx)
}

// Projects completes names of projects.
func Projects(ctx context.Context, e *Env, _ []string) ([]string, error) {
	return e.Client().ProjectNames(ctx)
}

// Networks completes names of networks.
func Networks(ctx context.Context, e *Env, _ []string) ([]string, error) {
	return e.Client().NetworkNames(ctx)
}

// Pools completes names of storage pools.
func Pools(ctx context.Context, e *Env, _ []string) ([]string, error) {
	return e.Client().StoragePoolNames(ctx)
}

// Aliases completes aliases of images.
func Aliases(ctx context.Context, e *Env, _ []string) ([]string, error) {
	all, err := e.Client().ImageAliases(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, a := range all {
		out = append(out, a.Name)
	}
	return out, nil
}

// Images completes aliases and fingerprints of images.
func Images(ctx context.Context, e *Env, args []string) ([]string, error) {
	out, err := Aliases(ctx, e, args)
	if err != nil {
		return nil, err
	}
	all, err := e.Client().Images(ctx)
	if err != nil {
		return nil, err
	}
	for _, img := range all {
		out = append(out, Short(img.Fingerprint))
	}
	return out, nil
}

// Warnings completes UUIDs of warnings.
func Warnings(ctx context.Context, e *Env, _ []string) ([]string, error) {
	all, err := e.Client().Warnings(ctx)
	ids := make([]string, len(all))
	for i, w := range all {
		ids[i] = w.UUID
	}
	return ids, err
}

// Operations completes ids of operations.
func Operations(ctx context.Context, e *Env, _ []string) ([]string, error) {
	all, err := e.Client().Operations(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, o := range all {
		out = append(out, o.ID)
	}
	return out, nil
}

// Snapshots completes snapshots of the instance that is the first argument.
func Snapshots(ctx context.Context, e *Env, args []string) ([]string, error) {
	all, err := e.Client().Snapshots(ctx, args[0])
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range all {
		out = append(out, SnapshotName(s.Name))
	}
	return out, nil
}

// InstanceDevices completes devices of the instance that is the first
// argument.
func InstanceDevices(ctx context.Context, e *Env, args []string) ([]string, error) {
	in, _, err := e.Client().Instance(ctx, args[0])
	return KeysOf(in.ExpandedDevices), err
}

// ProfileDevices completes devices of the profile that is the first argument.
func ProfileDevices(ctx context.Context, e *Env, args []string) ([]string, error) {
	p, _, err := e.Client().Profile(ctx, args[0])
	return KeysOf(p.Devices), err
}

// InstanceKeys completes configuration keys that the instance has.
func InstanceKeys(ctx context.Context, e *Env, args []string) ([]string, error) {
	in, _, err := e.Client().Instance(ctx, args[0])
	return KeysOf(in.Config), err
}

// ProfileKeys completes keys that the profile has.
func ProfileKeys(ctx context.Context, e *Env, args []string) ([]string, error) {
	p, _, err := e.Client().Profile(ctx, args[0])
	return KeysOf(p.Config), err
}

// ProjectKeys completes keys that the project has.
func ProjectKeys(ctx context.Context, e *Env, args []string) ([]string, error) {
	p, _, err := e.Client().Project(ctx, args[0])
	return KeysOf(p.Config), err
}

// NetworkKeys completes keys that the network has.
func NetworkKeys(ctx context.Context, e *Env, args []string) ([]string, error) {
	n, _, err := e.Client().Network(ctx, args[0])
	return KeysOf(n.Config), err
}

// PoolKeys completes keys that the storage pool has.
func PoolKeys(ctx context.Context, e *Env, args []string) ([]string, error) {
	p, _, err := e.Client().StoragePool(ctx, args[0])
	return KeysOf(p.Config), err
}

// Volumes completes custom volumes of the pool that is the first argument.
func Volumes(ctx context.Context, e *Env, args []string) ([]string, error) {
	all, err := e.Client().StorageVolumes(ctx, args[0])
	var out []string
	for _, v := range all {
		if v.Type == CustomVolume && !strings.Contains(v.Name, "/") {
			out = append(out, v.Name)
		}
	}
	return out, err
}

// CustomVolume is the type of the volumes that users make.
const CustomVolume = "custom"

// AllVolumes completes volumes of the pool that is the first argument, with
// their types.
func AllVolumes(ctx context.Context, e *Env, args []string) ([]string, error) {
	all, err := e.Client().StorageVolumes(ctx, args[0])
	var out []string
	for _, v := range all {
		if v.Type == CustomVolume {
			out = append(out, v.Name)
		} else {
			out = append(out, v.Type+"/"+v.Name)
		}
	}
	return out, err
}

// PoolVolumes completes POOL/VOLUME.
func PoolVolumes(ctx context.Context, e *Env, _ []string) ([]string, error) {
	pools, err := e.Client().StoragePoolNames(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, pool := range pools {
		some, err := Volumes(ctx, e, []string{pool})
		if err != nil {
			continue // Such as of a pool that is not there.
		}
		for _, v := range some {
			out = append(out, pool+"/"+v)
		}
	}
	return out, nil
}

// VolumeSnapshots completes snapshots of the volume that the first two
// arguments name.
func VolumeSnapshots(ctx context.Context, e *Env, args []string) ([]string, error) {
	all, err := e.Client().StorageVolumeSnapshots(ctx, client.Volume{Pool: args[0], Type: CustomVolume, Name: args[1]})
	var out []string
	for _, s := range all {
		out = append(out, SnapshotName(s.Name))
	}
	return out, err
}

// DriverNames completes drivers of storage pools.
func DriverNames(context.Context, *Env, []string) ([]string, error) { return Drivers, nil }

// Drivers are the storage drivers that the daemon can have.
var Drivers = []string{"overlay", "btrfs", "zfs", "dir"}

// Compressions completes programs that compress archives.
func Compressions(context.Context, *Env, []string) ([]string, error) {
	return []string{"bzip2", "gzip", "lzma", "none", "pigz", "xz", "zstd"}, nil
}

// InstancePaths completes names of instances, with the slash after them.
func InstancePaths(ctx context.Context, e *Env, _ []string) ([]string, error) {
	names, err := e.Client().InstanceNames(ctx)
	for i := range names {
		names[i] += "/"
	}
	return names, err
}

// None is for arguments that nobody can guess.
func None(context.Context, *Env, []string) ([]string, error) { return nil, nil }

// LocalFiles is for arguments that are files of this host.
func LocalFiles(context.Context, *Env, []string) ([]string, error) { return nil, errLocalFiles }

var errLocalFiles = errs.Invalidf("files of this host")

// Complete returns the function by which shells complete arguments: each one
// has a completer, and the last completer is for all that follow.
func (e *Env) Complete(by ...Completer) cobra.CompletionFunc { return completion{e, by}.complete }

// CompleteSource is Complete with INSTANCE or INSTANCE/SNAPSHOT first.
func (e *Env) CompleteSource(after ...Completer) cobra.CompletionFunc {
	whole := e.Complete(append([]Completer{Instances}, after...)...)
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		name, _, ok := strings.Cut(typed, "/")
		if len(args) > 0 || !ok {
			return whole(cmd, args, typed)
		}
		snapshots := func(ctx context.Context, e *Env, _ []string) ([]string, error) {
			out, err := Snapshots(ctx, e, []string{strings.TrimPrefix(name, "local:")})
			for i := range out {
				out[i] = name + "/" + out[i]
			}
			return out, err
		}
		return e.Complete(snapshots)(cmd, nil, typed)
	}
}

// CompleteFlag makes shells complete the values of a flag.
func (e *Env) CompleteFlag(cmd *cobra.Command, flag string, by Completer) {
	complete := func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return completion{e, []Completer{by}}.complete(cmd, nil, typed)
	}
	_ = cmd.RegisterFlagCompletionFunc(flag, complete) // The flag exists.
}

type completion struct {
	e  *Env
	by []Completer
}

func (c completion) complete(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	given := make([]string, len(args))
	for i, a := range args {
		given[i] = strings.TrimPrefix(a, "local:")
	}
	if c.e.Begin() != nil { // What was typed may say another one than what ran so far.
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found, err := c.by[min(len(args), len(c.by)-1)].find(cmd.Context(), c.e, given)
	switch {
	case errors.Is(err, errLocalFiles):
		return nil, cobra.ShellCompDirectiveDefault
	case err != nil:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	found = fitting(found, args, typed)
	return found, directive(found)
}

// directive has the shell put no space after what something is to follow, as
// the value does after KEY=, a path after INSTANCE/, or the rest after "user.".
func directive(names []string) cobra.ShellCompDirective {
	for _, n := range names {
		if n != "" && strings.ContainsRune("=/.", rune(n[len(n)-1])) {
			return cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
	}
	return cobra.ShellCompDirectiveNoFileComp
}

// fitting returns the names that begin as typed and are not given yet.
func fitting(names, given []string, typed string) []string {
	var out []string
next:
	for _, n := range names {
		for _, g := range given {
			if g == n || strings.HasSuffix(n, "=") && strings.HasPrefix(g, n) {
				continue next
			}
		}
		if strings.HasPrefix(n, typed) {
			out = append(out, n)
		}
	}
	return out
}
