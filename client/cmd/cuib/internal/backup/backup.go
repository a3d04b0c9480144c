package backup

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
)

var backupColumns = []output.Column[api.RepositoryBackup]{
	{Key: 'i', Name: "ID", Value: func(b api.RepositoryBackup) string { return short(b.ID) }},
	{Key: 'I', Name: "WHOLE ID", Value: func(b api.RepositoryBackup) string { return b.ID }},
	{Key: 's', Name: "SOURCE", Value: func(b api.RepositoryBackup) string { return shownSource(b.Source) }},
	{Key: 'h', Name: "HOST", Value: func(b api.RepositoryBackup) string { return b.Host }},
	{Key: 'c', Name: "CREATED", Value: func(b api.RepositoryBackup) string { return kit.Date(b.CreatedAt) }},
	{Key: 'z', Name: "SIZE", Value: func(b api.RepositoryBackup) string { return known(b.Size) }},
	{Key: 'e', Name: "PROJECT", Value: func(b api.RepositoryBackup) string { return b.Project }},
	{Key: 'a', Name: "ADDED", Value: func(b api.RepositoryBackup) string { return known(b.Added) }},
}

// known formats a number of bytes that is negative if nobody knows it.
func known(n int64) string {
	if n < 0 {
		return ""
	}
	return kit.Size(n)
}

func newCreate(e *env) *cobra.Command {
	req := api.RepositoryBackupsPost{Sources: []string{}}
	cmd := &cobra.Command{
		Use: "create REPOSITORY [SOURCE...]", Short: "Make backups in a repository",
		Long: `Make backups in a repository: of the sources, or of all instances and all custom
volumes of all projects, and the host's configuration. An instance that runs is
frozen for the moment in which a snapshot of it is made, which is what is read:
the files that are not as they were for the backup before. In pools of overlay and
dir that is told by their size and time, and all is read once a week.`,
		Example: "  cuib backup create nas web default/data host\n  cuib backup create nas",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(repositories, sources),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			return e.create(cmd.Context(), args[0], args[1:], req)
		}),
	}
	cmd.Flags().BoolVar(&req.Checksum, "checksum", false, "read all files, whatever their size and time")
	return cmd
}

func (e *env) create(ctx context.Context, repository string, args []string, req api.RepositoryBackupsPost) error {
	for _, arg := range args {
		name, err := kit.Local(arg)
		if err != nil {
			return err
		}
		req.Sources = append(req.Sources, sourceOf(name))
	}
	op, err := e.Client().CreateRepositoryBackups(ctx, repository, req)
	if err != nil {
		return err
	}
	err = e.Wait(ctx, op, nil)
	var made []api.RepositoryBackup
	if merr := metadata(op.Metadata["backups"], &made); merr != nil {
		return merr
	}
	current, cerr := e.CurrentProject()
	if cerr != nil {
		return cerr
	}
	for _, b := range made {
		what := shownSource(b.Source)
		if b.Project != "" && b.Project != current && b.Source != hostSource {
			what += " of project " + b.Project
		}
		e.Say("%s: backup %s of %s, %s added", what, short(b.ID), kit.Size(b.Size), kit.Size(b.Added))
	}
	return err
}

// metadata decodes what an operation says of itself.
func metadata(value, into any) error {
	if value == nil {
		return nil
	}
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

func newList(e *env) *cobra.Command {
	var v kit.ListView
	var projects kit.AllProjects
	cmd := &cobra.Command{
		Use: "list REPOSITORY [SOURCE]", Aliases: []string{"ls"}, Short: "List the backups in a repository",
		Long:    "List the backups in a repository, oldest first. ADDED is what a backup added to\nit, before compression. Columns:\n\n" + output.Describe(backupColumns),
		Example: "  cuib backup list nas\n  cuib backup list nas web",
		Args:    kit.Needs(1, 2), ValidArgsFunction: e.Complete(repositories, sources, kit.None),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			source := ""
			if len(args) > 1 {
				source = sourceOf(args[1])
			}
			c, err := projects.Client(e.Env)
			if err != nil {
				return err
			}
			all, err := c.RepositoryBackups(cmd.Context(), args[0], source)
			if err != nil {
				return err
			}
			kit.AddColumn(projects, cmd, backupColumns, &v)
			return kit.Show(e.Env, v, backupColumns, all)
		}),
	}
	v.Flags(cmd, "ishcza")
	projects.Flag(cmd)
	return cmd
}

func newDelete(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "delete REPOSITORY BACKUP...", Aliases: []string{"rm"}, Short: "Delete backups by their ids",
		Long:    "Delete backups by their ids. The room that only they took is free after the next\n\"cuib backup prune\".",
		Example: "  cuib backup delete nas 4f3c2b1a",
		Args:    kit.Needs(2, -1), ValidArgsFunction: e.Complete(repositories, ids),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			for _, id := range args[1:] {
				op, err := e.Client().DeleteRepositoryBackup(cmd.Context(), args[0], id)
				if err := e.Wait(cmd.Context(), op, err); err != nil {
					return err
				}
				e.Say("Backup %s deleted", id)
			}
			return nil
		}),
	}
}

func newPrune(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "prune REPOSITORY", Short: "Remove the backups that are not to be kept, and data that nothing needs",
		Long: `Remove this host's backups that are not to be kept, and the data that no backup
needs any more. What is kept is said by backups.keep.* of an instance, a
profile or a volume or, where none is set, by keep.* of the repository; where
neither says anything, all is kept. Those of sources that are gone stay as the
repository says. Repositories that get backups by a schedule are pruned once a
day.`,
		Example: "  cuib backup repository set nas keep.daily=7 keep.monthly=12\n  cuib backup prune nas",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(repositories, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			op, err := e.Client().PruneRepository(cmd.Context(), args[0])
			return e.Wait(cmd.Context(), op, err)
		}),
	}
}

func newVerify(e *env) *cobra.Command {
	var req api.RepositoryVerifyPost
	cmd := &cobra.Command{
		Use: "verify REPOSITORY", Short: "Check that a repository is whole",
		Long: `Check that a repository is whole: that all that its backups need is there and,
with --read-data, that it can be read and is what was written.`,
		Example: "  cuib backup verify nas\n  cuib backup verify nas --read-data 5%\n  cuib backup verify nas --read-data all",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(repositories, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			op, err := e.Client().VerifyRepository(cmd.Context(), args[0], req)
			if err := e.Wait(cmd.Context(), op, err); err != nil {
				return err
			}
			e.Say("Backup repository %s is whole", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&req.ReadData, "read-data", "", "how much of the data to read too: all, \"5%\" at random, \"1/7\", \"10G\"")
	cmd.Flags().StringVar(&req.ReadData, "read-data-subset", "", "restic's name for --read-data")
	_ = cmd.Flags().MarkHidden("read-data-subset") // The flag exists.
	return cmd
}
