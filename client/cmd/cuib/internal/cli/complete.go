package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/shared/errs"
)

// completionTime is how long the shell waits for names at most.
const completionTime = 2 * time.Second

// A completer returns what can stand in place of an argument; args are those
// before it.
type completer func(ctx context.Context, e *env, args []string) ([]string, error)

// find runs the completer, for a short time.
func (c completer) find(ctx context.Context, e *env, args []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	return c(ctx, e, args)
}

func instances(ctx context.Context, e *env, _ []string) ([]string, error) {
	return e.client().InstanceNames(ctx)
}

func profiles(ctx context.Context, e *env, _ []string) ([]string, error) {
	return e.client().ProfileNames(ctx)
}

func networks(ctx context.Context, e *env, _ []string) ([]string, error) {
	return e.client().NetworkNames(ctx)
}

func pools(ctx context.Context, e *env, _ []string) ([]string, error) {
	return e.client().StoragePoolNames(ctx)
}

func aliases(ctx context.Context, e *env, _ []string) ([]string, error) {
	all, err := e.client().ImageAliases(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, a := range all {
		out = append(out, a.Name)
	}
	return out, nil
}

func images(ctx context.Context, e *env, args []string) ([]string, error) {
	out, err := aliases(ctx, e, args)
	if err != nil {
		return nil, err
	}
	all, err := e.client().Images(ctx)
	if err != nil {
		return nil, err
	}
	for _, img := range all {
		out = append(out, short(img.Fingerprint))
	}
	return out, nil
}

func operations(ctx context.Context, e *env, _ []string) ([]string, error) {
	all, err := e.client().Operations(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, o := range all {
		out = append(out, o.ID)
	}
	return out, nil
}

// snapshots completes snapshots of the instance that is the first argument.
func snapshots(ctx context.Context, e *env, args []string) ([]string, error) {
	all, err := e.client().Snapshots(ctx, args[0])
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range all {
		out = append(out, snapshotName(s.Name))
	}
	return out, nil
}

// instanceDevices completes devices of the instance that is the first
// argument.
func instanceDevices(ctx context.Context, e *env, args []string) ([]string, error) {
	in, _, err := e.client().Instance(ctx, args[0])
	return keysOf(in.ExpandedDevices), err
}

func profileDevices(ctx context.Context, e *env, args []string) ([]string, error) {
	p, _, err := e.client().Profile(ctx, args[0])
	return keysOf(p.Devices), err
}

// instanceKeys completes configuration keys that the instance has.
func instanceKeys(ctx context.Context, e *env, args []string) ([]string, error) {
	in, _, err := e.client().Instance(ctx, args[0])
	return keysOf(in.Config), err
}

func profileKeys(ctx context.Context, e *env, args []string) ([]string, error) {
	p, _, err := e.client().Profile(ctx, args[0])
	return keysOf(p.Config), err
}

func networkKeys(ctx context.Context, e *env, args []string) ([]string, error) {
	n, _, err := e.client().Network(ctx, args[0])
	return keysOf(n.Config), err
}

func poolKeys(ctx context.Context, e *env, args []string) ([]string, error) {
	p, _, err := e.client().StoragePool(ctx, args[0])
	return keysOf(p.Config), err
}

func volumes(ctx context.Context, e *env, args []string) ([]string, error) {
	all, err := e.client().StorageVolumes(ctx, args[0])
	var out []string
	for _, v := range all {
		out = append(out, v.Type+"/"+v.Name)
	}
	return out, err
}

func driverNames(context.Context, *env, []string) ([]string, error) { return drivers, nil }

// drivers are the storage drivers that the daemon can have.
var drivers = []string{"overlay", "btrfs", "dir"}

func deviceTypes(context.Context, *env, []string) ([]string, error) {
	return []string{"disk", "nic", "none", "unix-block", "unix-char"}, nil
}

// instancePaths completes names of instances, with the slash after them.
func instancePaths(ctx context.Context, e *env, _ []string) ([]string, error) {
	names, err := e.client().InstanceNames(ctx)
	for i := range names {
		names[i] += "/"
	}
	return names, err
}

// none is for arguments that nobody can guess.
func none(context.Context, *env, []string) ([]string, error) { return nil, nil }

// localFiles is for arguments that are files of this host.
func localFiles(context.Context, *env, []string) ([]string, error) { return nil, errLocalFiles }

var errLocalFiles = errs.Invalidf("files of this host")

// complete returns the function by which shells complete arguments: each one
// has a completer, and the last completer is for all that follow.
func (e *env) complete(by ...completer) cobra.CompletionFunc { return completion{e, by}.complete }

type completion struct {
	e  *env
	by []completer
}

func (c completion) complete(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	given := make([]string, len(args))
	for i, a := range args {
		given[i] = strings.TrimPrefix(a, "local:")
	}
	found, err := c.by[min(len(args), len(c.by)-1)].find(cmd.Context(), c.e, given)
	switch {
	case err == errLocalFiles: //nolint:errorlint // It is a mark, not an error.
		return nil, cobra.ShellCompDirectiveDefault
	case err != nil:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return fitting(found, args, typed), cobra.ShellCompDirectiveNoFileComp
}

// fitting returns the names that begin as typed and are not given yet.
func fitting(names, given []string, typed string) []string {
	var out []string
next:
	for _, n := range names {
		for _, g := range given {
			if g == n {
				continue next
			}
		}
		if strings.HasPrefix(n, typed) {
			out = append(out, n)
		}
	}
	return out
}
