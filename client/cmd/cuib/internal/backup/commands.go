// Package backup has the commands that are about incremental backups in
// repositories.
package backup

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
)

// env is what a command has of the world.
type env struct {
	*kit.Env
}

const groupLong = `Back up into repositories: incremental, deduplicated, encrypted backups of
instances, custom volumes and the host's configuration, in a directory, over
SFTP or in S3, kept by restic.

A SOURCE is an instance, a custom volume as POOL/VOLUME, or "host" for what
the host has beside them: pools, networks, profiles, aliases of images, the
server's configuration. instances/NAME and volumes/POOL/VOLUME say the same.
Instances and volumes are those of the current project.`

// Commands returns the commands of this package.
func Commands(k *kit.Env) []kit.Maker {
	return []kit.Maker{kit.Called(&env{k}, newBackup, "backup")}
}

func newBackup(e *env) *cobra.Command {
	group := kit.Group("backup", "Back up into repositories, and restore",
		"  cuib backup repository add nas location=sftp:backup@nas:/srv/cuib\n  cuib backup create nas web\n  cuib backup restore nas web",
		newCreate(e), newDelete(e), newList(e), newPrune(e), newRepository(e), newRestore(e), newVerify(e))
	group.Long = groupLong
	return group
}

// The beginnings of sources, and the one that is the host.
const (
	hostSource = "host"
	ofInstance = "instances/"
	ofVolume   = "volumes/"
)

// sourceOf returns the source that a user means.
func sourceOf(arg string) string {
	switch {
	case arg == hostSource, strings.HasPrefix(arg, ofInstance), strings.HasPrefix(arg, ofVolume):
		return arg
	case strings.Contains(arg, "/"):
		return ofVolume + arg
	}
	return ofInstance + arg
}

// shownSource is the short form of a source.
func shownSource(source string) string {
	if name, ok := strings.CutPrefix(source, ofInstance); ok && name != hostSource {
		return name
	}
	return strings.TrimPrefix(source, ofVolume)
}

// repositories completes names of repositories.
func repositories(ctx context.Context, e *kit.Env, _ []string) ([]string, error) {
	return e.Client().BackupRepositoryNames(ctx)
}

// sources completes what can be backed up.
func sources(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	out, err := kit.Instances(ctx, e, args)
	if err != nil {
		return nil, err
	}
	pools, err := e.Client().StoragePoolNames(ctx)
	if err != nil {
		return nil, err
	}
	for _, pool := range pools {
		all, err := e.Client().StorageVolumes(ctx, pool)
		if err != nil {
			continue // The others are there.
		}
		for _, v := range all {
			if v.Type == kit.CustomVolume && !strings.Contains(v.Name, "/") {
				out = append(out, pool+"/"+v.Name)
			}
		}
	}
	return append(out, hostSource), nil
}

// backups completes ids of backups, and the sources that have some, in the
// repository that is the first argument.
func backups(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	all, err := e.Client().RepositoryBackups(ctx, args[0], "")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, b := range slices.Backward(all) {
		out = append(out, short(b.ID))
		if source := shownSource(b.Source); b.Source != hostSource && !slices.Contains(out, source) {
			out = append(out, source)
		}
	}
	return out, nil
}

// ids completes ids of backups.
func ids(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	all, err := e.Client().RepositoryBackups(ctx, args[0], "")
	var out []string
	for _, b := range all {
		out = append(out, short(b.ID))
	}
	return out, err
}

// repositoryKeys completes keys that the repository has.
func repositoryKeys(ctx context.Context, e *kit.Env, args []string) ([]string, error) {
	r, _, err := e.Client().BackupRepository(ctx, args[0])
	return kit.KeysOf(r.Config), err
}

// short returns the beginning of an id that is shown.
func short(id string) string { return id[:min(8, len(id))] }

func repositoryKind(e *env) kit.Kind[api.BackupRepository, api.BackupRepositoryPut] {
	return kit.Kind[api.BackupRepository, api.BackupRepositoryPut]{
		Command: "backup repository", What: "a backup repository", Arg: "REPOSITORY", Pair: "nas keep.daily=7", Names: repositories, Keys: repositoryKeys,
		Read: e.Client().BackupRepository, Update: e.Client().UpdateBackupRepository,
		Put:    func(r *api.BackupRepository) *api.BackupRepositoryPut { return &r.BackupRepositoryPut },
		Config: func(p *api.BackupRepositoryPut) *api.ConfigMap { return &p.Config },
	}
}
