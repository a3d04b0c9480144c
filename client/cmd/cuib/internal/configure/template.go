package configure

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/errs"
)

var templateColumns = []output.Column[string]{
	{Key: 'n', Name: "FILENAME", Value: func(name string) string { return name }},
}

func newConfigTemplate(e *env) *cobra.Command {
	return kit.Group("template", "Show and change the templates of an instance's files", "  cuib config template show web hostname.tpl",
		newTemplateCreate(e), newTemplateDelete(e), newTemplateEdit(e), newTemplateList(e), newTemplateShow(e))
}

func newTemplateList(e *env) *cobra.Command {
	return kit.ListPartsCommand(e.Env, kit.PartLister[string]{
		Use: "list INSTANCE", Short: "List templates", Example: "  cuib config template list web",
		Of: kit.Instances, Columns: templateColumns, Usual: "n", Read: e.Client().InstanceTemplates,
	})
}

// templateCommand is a command on one template, whose names are completed.
func (e *env) templateCommand(cmd *cobra.Command, run func(ctx context.Context, instance, template string) error) *cobra.Command {
	cmd.Args, cmd.ValidArgsFunction = kit.Needs(2, 2), e.Complete(kit.Instances, kit.Templates, kit.None)
	cmd.RunE = kit.Named(1, func(cmd *cobra.Command, args []string) error { return run(cmd.Context(), args[0], args[1]) })
	return cmd
}

func newTemplateShow(e *env) *cobra.Command {
	return e.templateCommand(&cobra.Command{
		Use: "show INSTANCE TEMPLATE", Short: "Show a template", Example: "  cuib config template show web hostname.tpl",
	}, func(ctx context.Context, instance, template string) error {
		text, err := e.Client().InstanceTemplate(ctx, instance, template)
		if err == nil {
			fmt.Fprint(e.Out, text)
		}
		return err
	})
}

func newTemplateCreate(e *env) *cobra.Command {
	return e.templateCommand(&cobra.Command{
		Use: "create INSTANCE TEMPLATE", Short: "Create a template",
		Long:    "Create a template. Its text comes from the standard input, if there is any.\nWhich file it makes, and when, says the metadata: see \"cuib config metadata edit\".",
		Example: "  cuib config template create web motd.tpl < motd.tpl",
	}, func(ctx context.Context, instance, template string) error {
		names, err := e.Client().InstanceTemplates(ctx, instance)
		if err != nil {
			return err
		}
		if slices.Contains(names, template) {
			return errs.Conflictf("instance %q has a template %q already: use edit", instance, template)
		}
		write := func(text string) error { return e.Client().SetInstanceTemplate(ctx, instance, template, text) }
		text, err := e.PipedText()
		if err == nil {
			err = write(text)
		}
		if err == nil {
			e.Say("Template %s created", template)
		}
		return err
	})
}

func newTemplateEdit(e *env) *cobra.Command {
	return e.templateCommand(&cobra.Command{
		Use: "edit INSTANCE TEMPLATE", Short: "Edit a template",
		Long:    "Edit a template in $EDITOR. A text on the standard input is taken instead.",
		Example: "  cuib config template edit web hostname.tpl",
	}, func(ctx context.Context, instance, template string) error {
		return e.EditText(ctx,
			func() (string, error) { return e.Client().InstanceTemplate(ctx, instance, template) },
			func(text string) error { return e.Client().SetInstanceTemplate(ctx, instance, template, text) })
	})
}

func newTemplateDelete(e *env) *cobra.Command {
	return e.templateCommand(&cobra.Command{
		Use: "delete INSTANCE TEMPLATE", Aliases: []string{"rm"}, Short: "Delete a template",
		Example: "  cuib config template delete web motd.tpl",
	}, func(ctx context.Context, instance, template string) error {
		err := e.Client().DeleteInstanceTemplate(ctx, instance, template)
		if err == nil {
			e.Say("Template %s deleted", template)
		}
		return err
	})
}
