package backup

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var fileColumns = []output.Column[api.RepositoryFile]{
	{Key: 't', Name: "TYPE", Value: func(f api.RepositoryFile) string { return f.Type }},
	{Key: 'm', Name: "MODE", Value: func(f api.RepositoryFile) string { return fmt.Sprintf("%04o", f.Mode) }},
	{Key: 'u', Name: "UID", Value: func(f api.RepositoryFile) string { return fmt.Sprint(f.UID) }},
	{Key: 'g', Name: "GID", Value: func(f api.RepositoryFile) string { return fmt.Sprint(f.GID) }},
	{Key: 's', Name: "SIZE", Value: func(f api.RepositoryFile) string { return fmt.Sprint(f.Size) }},
	{Key: 'c', Name: "MODIFIED", Value: func(f api.RepositoryFile) string { return kit.Date(f.ModifiedAt) }},
	{Key: 'n', Name: "NAME", Value: func(f api.RepositoryFile) string { return f.Name }},
}

const restoreLong = `Restore from a repository an instance or a custom volume: that of a BACKUP by its
id, or the last backup of a SOURCE. It is made anew, under another name or in
another pool if that is said; one that exists is never replaced. An instance is
not started. Snapshots are not in backups.

--file PATH gets one file of a backup instead, and writes it to TARGET or to
the standard output; of a directory it shows what is in it.

--all brings back all of a host: storage pools, networks, profiles, volumes and
instances. What exists is left alone, so that it can be repeated. On a fresh
server the repository is added first, if its location is given.`

const restoreExample = `  cuib backup restore nas web
  cuib backup restore nas 4f3c2b1a web-before --pool fast
  cuib backup restore nas web --file /etc/fstab
  cuib backup restore nas --all location=sftp:backup@nas:/srv/cuib --password-file nas.password`

type restoreOptions struct {
	addOptions

	pool, host, file string
	all              bool
}

func newRestore(e *env) *cobra.Command {
	var opts restoreOptions
	cmd := &cobra.Command{
		Use: "restore REPOSITORY BACKUP|SOURCE [NAME|TARGET]", Short: "Restore instances, volumes, files, or a whole host",
		Long: restoreLong, Example: restoreExample,
		Args: kit.Needs(1, -1), ValidArgsFunction: e.Complete(repositories, backups, kit.LocalFiles),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			return e.restore(cmd.Context(), args, opts)
		}),
	}
	cmd.Flags().StringVarP(&opts.pool, "pool", "s", "", "storage pool to restore to")
	cmd.Flags().StringVar(&opts.file, "file", "", "path of one file to get, or of a directory to list")
	cmd.Flags().BoolVar(&opts.all, "all", false, "bring back all of a host")
	cmd.Flags().StringVar(&opts.host, "host", "", "whose backups; those of this host if it is not said")
	opts.flags(cmd)
	e.CompleteFlag(cmd, "pool", kit.Pools)
	return cmd
}

func (e *env) restore(ctx context.Context, args []string, opts restoreOptions) error {
	if opts.all {
		return e.restoreAll(ctx, args[0], args[1:], opts)
	}
	if len(args) < 2 || len(args) > 3 {
		return errs.Invalidf("want REPOSITORY, BACKUP or SOURCE, and at most a NAME after it: see \"cuib backup restore --help\"")
	}
	what, err := kit.Local(args[1])
	if err != nil {
		return err
	}
	name := ""
	if len(args) > 2 {
		name = args[2]
	}
	if opts.file != "" {
		return e.restoreFile(ctx, args[0], what, name, opts)
	}
	id, err := e.find(ctx, args[0], what, opts.host)
	if err != nil {
		return err
	}
	req := api.RepositoryRestorePost{ID: id.ID, Name: name, Pool: opts.pool}
	op, err := e.Client().RestoreRepository(ctx, args[0], req)
	if err := e.Wait(ctx, op, err); err != nil {
		return err
	}
	made := shownSource(id.Source)
	if name != "" {
		made = name
	}
	e.Say("%s restored from backup %s of %s", made, short(id.ID), kit.Date(id.CreatedAt))
	return nil
}

// find returns the backup with an id that begins so, or the last one of a
// source: of the host or, if none is said, of any, but this one's first.
func (e *env) find(ctx context.Context, repository, what, host string) (api.RepositoryBackup, error) {
	all, err := e.Client().RepositoryBackups(ctx, repository, "")
	if err != nil {
		return api.RepositoryBackup{}, err
	}
	var hosts []string
	for _, b := range slices.Backward(all) {
		if b.Source != sourceOf(what) {
			continue
		}
		if host == b.Host {
			return b, nil
		}
		if !slices.Contains(hosts, b.Host) {
			hosts = append(hosts, b.Host)
		}
	}
	if host == "" && len(hosts) > 0 {
		return e.lastOf(ctx, all, what, hosts)
	}
	for _, b := range all {
		if len(what) >= 4 && strings.HasPrefix(b.ID, what) {
			return b, nil
		}
	}
	if len(hosts) > 0 {
		return api.RepositoryBackup{}, errs.NotFoundf("repository %s has no backup of %s of host %s, but of %s", repository, what, host, strings.Join(hosts, ", "))
	}
	return api.RepositoryBackup{}, errs.NotFoundf("repository %s has neither a backup %s nor a source of that name", repository, what)
}

// lastOf returns the last backup of a source, whose backups are of hosts.
func (e *env) lastOf(ctx context.Context, all []api.RepositoryBackup, what string, hosts []string) (api.RepositoryBackup, error) {
	host := hosts[0]
	if len(hosts) > 1 {
		server, _, err := e.Client().Server(ctx)
		if err != nil {
			return api.RepositoryBackup{}, err
		}
		if host = server.Environment.ServerName; !slices.Contains(hosts, host) {
			return api.RepositoryBackup{}, errs.Invalidf("there are backups of %s of the hosts %s: say which with --host", what, strings.Join(hosts, ", "))
		}
	}
	for _, b := range slices.Backward(all) {
		if b.Source == sourceOf(what) && b.Host == host {
			return b, nil
		}
	}
	return api.RepositoryBackup{}, errs.NotFoundf("no backup of %s", what)
}

// restoreFile gets a file of a backup, or lists a directory.
func (e *env) restoreFile(ctx context.Context, repository, what, target string, opts restoreOptions) (err error) {
	b, err := e.find(ctx, repository, what, opts.host)
	if err != nil {
		return err
	}
	data, files, err := e.Client().ReadRepositoryFile(ctx, repository, b.ID, opts.file)
	if err != nil {
		return err
	}
	if data == nil {
		return kit.Show(e.Env, kit.ListView{Columns: "tmugscn", Format: "table"}, fileColumns, files)
	}
	defer data.Close()
	if target == "" || target == "-" {
		_, err := io.Copy(e.Out, data)
		return err
	}
	return e.Save(ctx, kit.Download{
		What: opts.file, Target: target, Name: path.Base(opts.file), Plain: true, Doing: "Restoring", Done: "Restored",
		Fill: func(ctx context.Context, w io.Writer) error {
			stop := context.AfterFunc(ctx, func() { data.Close() }) // It was asked for before.
			defer stop()
			_, err := io.Copy(w, data)
			if ctx.Err() != nil {
				return errs.Newf(errs.Canceled, "%w", context.Cause(ctx))
			}
			return err
		},
	})
}

// restoreAll brings back a host, and adds the repository before if args say
// where it is.
func (e *env) restoreAll(ctx context.Context, repository string, args []string, opts restoreOptions) error {
	if opts.pool != "" || opts.file != "" {
		return errs.Invalidf("--all brings back all as it was: --pool and --file do not go with it")
	}
	if len(args) > 0 {
		_, _, err := e.Client().BackupRepository(ctx, repository)
		if errs.Is(err, errs.NotFound) {
			err = e.addExisting(ctx, repository, args, opts.addOptions)
		}
		if err != nil {
			return err
		}
	}
	op, err := e.Client().RestoreRepository(ctx, repository, api.RepositoryRestorePost{All: true, Host: opts.host})
	if err != nil {
		return err
	}
	err = e.Wait(ctx, op, nil)
	var restored, present []string
	if merr := metadata(op.Metadata["restored"], &restored); merr != nil {
		return merr
	}
	if merr := metadata(op.Metadata["present"], &present); merr != nil {
		return merr
	}
	for _, name := range restored {
		e.Say("%s restored", name)
	}
	for _, name := range present {
		e.Say("%s is there and was left alone", name)
	}
	return err
}

// addExisting adds a repository that must be there: a new one has nothing to
// restore.
func (e *env) addExisting(ctx context.Context, name string, args []string, opts addOptions) error {
	if opts.passwordFile == "" {
		return errs.Invalidf("repository %s is not known to this server yet: give its password with --password-file", name)
	}
	opts.existing = true
	return e.add(ctx, name, args, opts)
}
