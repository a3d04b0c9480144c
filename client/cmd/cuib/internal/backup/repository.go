package backup

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

var repositoryColumns = []output.Column[api.BackupRepository]{
	{Key: 'n', Name: "NAME", Value: func(r api.BackupRepository) string { return r.Name }},
	{Key: 'l', Name: "LOCATION", Value: func(r api.BackupRepository) string { return r.Config["location"] }},
	{Key: 'd', Name: "DESCRIPTION", Value: func(r api.BackupRepository) string { return r.Description }},
	{Key: 's', Name: "STATE", Value: func(r api.BackupRepository) string { return strings.ToUpper(r.Status) }},
}

func newRepository(e *env) *cobra.Command {
	return kit.Group("repository", "Manage backup repositories",
		"  cuib backup repository add usb location=/mnt/usb/backup\n  cuib backup repository list",
		newAdd(e), kit.NewEdit(e.Env, repositoryKind(e)), kit.NewKeyGet(e.Env, repositoryKind(e)), newRepositories(e), newRemove(e),
		kit.NewKeySet(e.Env, repositoryKind(e)), kit.NewShow(e.Env, repositoryKind(e)), kit.NewKeyUnset(e.Env, repositoryKind(e)))
}

const addLong = `Add a backup repository: a new one, or one that is there, with its password.
Where it is, is the key "location":

  location=/mnt/backup              a directory of this host
  location=sftp:USER@HOST:/DIR      a directory of another host, with a key of
                                    root's, or "sftp.key" or "sftp.command"
  location=s3:https://HOST/BUCKET   a bucket, with "s3.access_key" and
                                    "s3.secret_key"

All that is in it is encrypted with a password, which is read from a file, or
made up and shown once. Without it nobody can restore anything: keep it where
this host's disks are not.`

func newAdd(e *env) *cobra.Command {
	var opts addOptions
	cmd := &cobra.Command{
		Use: "add NAME location=LOCATION [KEY=VALUE...]", Aliases: []string{"create"}, Short: "Add a backup repository", Long: addLong,
		Example: "  cuib backup repository add usb location=/mnt/usb/backup\n" +
			"  cuib backup repository add nas location=sftp:backup@nas:/srv/cuib --password-file /root/nas.password",
		Args: kit.Needs(1, -1), ValidArgsFunction: e.Complete(kit.None, newKeys),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			return e.add(cmd.Context(), args[0], args[1:], opts)
		}),
	}
	opts.flags(cmd)
	return cmd
}

// newKeys completes the keys of a new repository.
func newKeys(context.Context, *kit.Env, []string) ([]string, error) {
	return []string{
		"location=", "s3.access_key=", "s3.secret_key=-", "s3.region=", "sftp.key=", "sftp.command=", "limits.upload=", "limits.download=",
		"keep.last=", "keep.hourly=", "keep.daily=", "keep.weekly=", "keep.monthly=", "keep.yearly=",
	}, nil
}

// addOptions are the flags of a new repository.
type addOptions struct {
	description, passwordFile string
	existing                  bool
}

func (o *addOptions) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.existing, "existing", false, "take up a repository that is there, and make no new one")
	cmd.Flags().StringVar(&o.description, "description", "", "text that describes the repository")
	cmd.Flags().StringVar(&o.passwordFile, "password-file", "", "file with the password; \"-\" for the standard input")
	_ = cmd.MarkFlagFilename("password-file") // The flag exists.
}

func (e *env) add(ctx context.Context, name string, args []string, opts addOptions) error {
	req := api.BackupRepositoriesPost{Name: name, Existing: opts.existing}
	var err error
	if req.Config, err = kit.Pairs(args); err != nil {
		return err
	}
	if _, ok := req.Config["password"]; ok {
		return errs.Invalidf("a password on the command line is seen by all: use --password-file")
	}
	if err := e.secrets(req.Config, opts); err != nil {
		return err
	}
	req.Description = opts.description
	made, err := e.Client().CreateBackupRepository(ctx, req)
	if err != nil {
		return err
	}
	e.Say("Backup repository %s added", name)
	if made.Password != "" {
		e.Warn("Its password is shown this once. Without it, nothing can be restored on another host:")
		_, err = io.WriteString(e.Out, made.Password+"\n")
	}
	return err
}

// secrets reads what is not said on the command line.
func (e *env) secrets(config api.ConfigMap, opts addOptions) error {
	if config["s3.secret_key"] == "-" {
		if opts.passwordFile == "-" {
			return errs.Invalidf("the standard input cannot be both the password and s3.secret_key: give one as a file")
		}
		text, err := io.ReadAll(e.In)
		if err != nil {
			return err
		}
		config["s3.secret_key"] = firstLine(text)
	}
	var text []byte
	var err error
	switch opts.passwordFile {
	case "":
		return nil
	case "-":
		text, err = io.ReadAll(e.In)
	default:
		text, err = os.ReadFile(opts.passwordFile)
	}
	if err != nil {
		return err
	}
	if config["password"] = firstLine(text); config["password"] == "" {
		return errs.Invalidf("--password-file %s: the first line is empty", opts.passwordFile)
	}
	return nil
}

func firstLine(text []byte) string {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return strings.TrimSuffix(string(line), "\r")
}

func newRepositories(e *env) *cobra.Command {
	return kit.ListCommand(e.Env, kit.Lister[api.BackupRepository]{
		What: "backup repositories", Columns: repositoryColumns, Usual: "nlds", Example: "  cuib backup repository list",
		Read: (*client.Client).BackupRepositories, Shared: true,
	})
}

func newRemove(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "remove REPOSITORY...", Aliases: []string{"rm", "delete"}, Short: "Forget backup repositories; what is in them stays",
		Example: "  cuib backup repository remove usb",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.Complete(repositories),
		RunE: kit.Named(-1, func(cmd *cobra.Command, args []string) error {
			for _, name := range args {
				if err := e.Client().DeleteBackupRepository(cmd.Context(), name); err != nil {
					return err
				}
				e.Say("Backup repository %s removed; what is in it is untouched", name)
			}
			return nil
		}),
	}
}
