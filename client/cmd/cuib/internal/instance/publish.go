package instance

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/shared/api"
)

type publishOptions struct {
	aliases       []string
	public, force bool
	reuse         bool
	compression   string
	format        string
	expire        string
	target        kit.Target
}

func newPublish(e *env) *cobra.Command {
	var o publishOptions
	cmd := &cobra.Command{
		Use: "publish INSTANCE[/SNAPSHOT] [KEY=VALUE...]", Short: "Make an image of an instance or a snapshot",
		Long:    "Make an image of a stopped instance or of a snapshot; a running one is stopped for\nit with --force. KEY=VALUE are properties of the image. With\n--target-project it is one of another project.",
		Example: "  cuib publish web/fresh --alias web-base\n  cuib publish web --force --alias web-base description='our web server'",
		Args:    kit.Needs(1, -1), ValidArgsFunction: e.CompleteSource(kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error { return e.publish(cmd.Context(), o, args) }),
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.aliases, "alias", nil, "alias for the image; again for more")
	f.BoolVar(&o.public, "public", false, "let everybody use the image")
	f.BoolVarP(&o.force, "force", "f", false, "stop a running instance for it, and start it again")
	f.BoolVar(&o.reuse, "reuse", false, "take aliases away from images that have them")
	f.StringVar(&o.expire, "expire", "", "when nobody needs the image any more: in a time, as 4w, or on a day, as 2030-01-31")
	f.StringVar(&o.format, "format", "unified", "unified, or split for a file of its own for the root file system")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"unified", "split"}, cobra.ShellCompDirectiveNoFileComp)) // The flag exists.
	f.StringVar(&o.compression, "compression", "", "program that compresses it, such as zstd, gzip, xz or none")
	e.CompleteFlag(cmd, "compression", kit.Compressions)
	o.target.Flag(e.Env, cmd)
	return cmd
}

func (e *env) publish(ctx context.Context, o publishOptions, args []string) (err error) {
	properties, err := kit.Pairs(args[1:])
	if err != nil {
		return err
	}
	from, _, err := o.target.Projects(e.Env)
	if err != nil {
		return err
	}
	req := api.ImagesPost{
		Source: &api.ImagesPostSource{Type: "instance", Name: args[0], Project: from}, CompressionAlgorithm: o.compression,
		Aliases: kit.NewAliases(o.aliases, o.reuse),
	}
	req.Public, req.Properties = o.public, properties
	if o.format != "unified" {
		req.Format = o.format
	}
	if o.expire != "" {
		if req.ExpiresAt, err = kit.ParseExpiry(o.expire, time.Now()); err != nil {
			return err
		}
	}
	if strings.Contains(args[0], "/") {
		req.Source.Type = "snapshot"
	} else if o.force {
		restart, err := e.halt(ctx, args[0])
		if err != nil {
			return err
		}
		defer func() {
			if rerr := restart(context.WithoutCancel(ctx)); err == nil {
				err = rerr
			}
		}()
	}
	op, err := o.target.Client(e.Env).MakeImage(ctx, req)
	if err := e.Wait(ctx, op, err); err != nil {
		return err
	}
	if o.reuse {
		if err := kit.MoveAliases(ctx, o.target.Client(e.Env), o.aliases, op); err != nil {
			return err
		}
	}
	e.Say("Image published with fingerprint %v", op.Metadata["fingerprint"])
	return nil
}

// halt stops an instance that runs, and returns what makes it run again. One
// that is ephemeral is not meanwhile, as its stop would delete it.
func (e *env) halt(ctx context.Context, name string) (restart func(context.Context) error, err error) {
	c := e.Client()
	in, _, err := c.Instance(ctx, name)
	if err != nil {
		return nil, err
	}
	if !up(in.StatusCode) {
		return func(context.Context) error { return nil }, nil
	}
	again := func(context.Context) error { return nil }
	if in.Ephemeral {
		if err := e.setEphemeral(ctx, name, false); err != nil {
			return nil, err
		}
		again = func(ctx context.Context) error { return e.setEphemeral(ctx, name, true) }
	}
	op, err := c.SetInstanceState(ctx, name, api.InstanceStatePut{Action: "stop", Force: true, Timeout: -1})
	if err := e.Wait(ctx, op, err); err != nil {
		return nil, errors.Join(err, again(context.WithoutCancel(ctx)))
	}
	return func(ctx context.Context) error {
		op, err := c.SetInstanceState(ctx, name, api.InstanceStatePut{Action: "start", Timeout: -1})
		return errors.Join(e.Wait(ctx, op, err), again(ctx))
	}, nil
}

func (e *env) setEphemeral(ctx context.Context, name string, ephemeral bool) error {
	in, etag, err := e.Client().Instance(ctx, name)
	if err != nil {
		return err
	}
	in.Ephemeral = ephemeral
	op, err := e.Client().UpdateInstance(ctx, name, in.InstancePut, etag)
	return e.Wait(ctx, op, err)
}
