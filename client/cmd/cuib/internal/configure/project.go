package configure

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client/cmd/cuib/internal/kit"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// projectColumns are those of a list in which one project is the current one.
func projectColumns(current string) []output.Column[api.Project] {
	feature := func(name string) func(api.Project) string {
		return func(p api.Project) string {
			v := p.Config["features."+name]
			return kit.YesNo(v == "true" || v == "1")
		}
	}
	name := func(p api.Project) string {
		if p.Name == current {
			return p.Name + " (current)"
		}
		return p.Name
	}
	return []output.Column[api.Project]{
		{Key: 'n', Name: "NAME", Value: name},
		{Key: 'i', Name: "IMAGES", Value: feature("images")},
		{Key: 'p', Name: "PROFILES", Value: feature("profiles")},
		{Key: 'v', Name: "STORAGE VOLUMES", Value: feature("storage.volumes")},
		{Key: 'b', Name: "STORAGE BUCKETS", Value: feature("storage.buckets")},
		{Key: 'w', Name: "NETWORKS", Value: feature("networks")},
		{Key: 'z', Name: "NETWORK ZONES", Value: feature("networks.zones")},
		{Key: 'd', Name: "DESCRIPTION", Value: func(p api.Project) string { return p.Description }},
		{Key: 'u', Name: "USED BY", Value: func(p api.Project) string { return kit.Count(p.UsedBy) }},
	}
}

const projectLong = `Manage projects. Each project has instances of its own and, as its features.* say,
images, profiles, volumes, networks and zones of its own, or those of "default".

Commands are about one project: that of --project, else of $CUIB_PROJECT, else of
the one that "cuib project switch" chose, else of "default".`

func newProject(e *env) *cobra.Command {
	group := kit.Group("project", "Manage projects: instances and what they use, apart from others",
		"  cuib project create lab -c features.networks=true\n  cuib launch debian:bookworm web --project lab\n  cuib project switch lab",
		newProjectCreate(e), newProjectDelete(e), kit.NewEdit(e.Env, projectKind(e)), kit.NewKeyGet(e.Env, projectKind(e)), newProjectCurrent(e),
		newProjectInfo(e), newProjectList(e), newProjectRename(e), kit.NewKeySet(e.Env, projectKind(e)), kit.NewShow(e.Env, projectKind(e)),
		newProjectSwitch(e), kit.NewKeyUnset(e.Env, projectKind(e)))
	group.Long = projectLong
	return group
}

func projectKind(e *env) kit.Kind[api.Project, api.ProjectPut] {
	return kit.Kind[api.Project, api.ProjectPut]{
		Command: "project", What: "a project", Arg: "PROJECT", Pair: "lab limits.instances=10", Names: kit.Projects, Keys: kit.ProjectKeys, All: kit.ProjectSettings,
		Read: e.Client().Project, Update: e.Client().UpdateProject,
		Put:    func(p *api.Project) *api.ProjectPut { return &p.ProjectPut },
		Config: func(p *api.ProjectPut) *api.ConfigMap { return &p.Config },
	}
}

func newProjectCreate(e *env) *cobra.Command {
	var description string
	var config []string
	cmd := &cobra.Command{
		Use: "create PROJECT", Short: "Create a project",
		Long:    "Create a project. YAML on the standard input, in the form that \"cuib project\nshow\" has, is what it begins with.",
		Example: "  cuib project create lab\n  cuib project create lab -c features.networks=true -c limits.instances=10\n  cuib project create lab < lab.yaml",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			req := api.ProjectsPost{Name: args[0]}
			if err := kit.CreateConfig[api.Project](e.Env, config, &req.ProjectPut, &req.Config); err != nil {
				return err
			}
			req.Description = cmp.Or(description, req.Description)
			if err := e.Client().CreateProject(cmd.Context(), req); err != nil {
				return err
			}
			e.Say("Project %s created", args[0])
			return nil
		}),
	}
	cmd.Flags().StringArrayVarP(&config, "config", "c", nil, "key=value of the configuration; again for more")
	cmd.Flags().StringVar(&description, "description", "", "text that describes the project")
	e.CompleteFlag(cmd, "config", kit.ProjectSettings)
	return cmd
}

func newProjectDelete(e *env) *cobra.Command {
	var force bool
	cmd := e.DeleteCommand("Project", kit.Use("PROJECT", "empty projects", "  cuib project delete lab\n  cuib project delete --force lab"), kit.Projects,
		func(ctx context.Context, name string) error { return e.deleteProject(ctx, name, force) })
	cmd.Long = "Delete empty projects, or with --force also what is in them. On a terminal that is\nasked about before."
	cmd.Flags().BoolVarP(&force, "force", "f", false, "delete all that is in them too, running instances among it")
	return cmd
}

func (e *env) deleteProject(ctx context.Context, name string, force bool) error { //nolint:revive // force is the user's flag.
	remove := e.Client().DeleteProject
	if force {
		remove = e.Client().ForceDeleteProject
		if kit.IsTerminal(e.In) && !e.Confirm("Delete project "+name+" and all that is in it: instances, images, volumes, networks?") {
			return errs.Newf(errs.Canceled, "project %s not deleted", name)
		}
	}
	if err := remove(ctx, name); err != nil {
		return err
	}
	return e.LeaveProject(name, "")
}

func newProjectRename(e *env) *cobra.Command {
	return e.RenameCommand(kit.Use("PROJECT", "an empty project", "  cuib project rename lab test"), kit.Projects, func(ctx context.Context, name, to string) error {
		if err := e.Client().RenameProject(ctx, name, to); err != nil {
			return err
		}
		e.Say("Project %s renamed to %s", name, to)
		return e.LeaveProject(name, to)
	})
}

func newProjectList(e *env) *cobra.Command {
	var v kit.ListView
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List projects",
		Long:    "List projects, with what each has of its own. Columns:\n\n" + output.Describe(projectColumns("")),
		Example: "  cuib project list\n  cuib project list --columns nu --format csv",
		Args:    kit.Needs(0, 1), ValidArgsFunction: e.Complete(kit.None),
		RunE: kit.Nameless(func(cmd *cobra.Command) error {
			current, err := e.CurrentProject()
			if err != nil {
				return err
			}
			all, err := e.Client().Projects(cmd.Context())
			if err != nil {
				return err
			}
			slices.SortFunc(all, func(a, b api.Project) int { return cmp.Compare(a.Name, b.Name) })
			return kit.Show(e.Env, v, projectColumns(current), all)
		}),
	}
	v.Flags(cmd, "nipvbwzdu")
	return cmd
}

func newProjectSwitch(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "switch PROJECT", Short: "Make a project the current one, for commands without --project",
		Long:    "Make a project the current one, for commands without --project. That is kept in\nconfig.yml in $CUIB_CONF, else in ~/.config/cuib. $CUIB_PROJECT goes before it.",
		Example: "  cuib project switch lab\n  cuib project switch default",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Projects, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			if _, _, err := e.Client().Project(cmd.Context(), args[0]); err != nil {
				return err
			}
			return e.SwitchProject(args[0])
		}),
	}
}

func newProjectCurrent(e *env) *cobra.Command {
	return &cobra.Command{
		Use: "get-current", Short: "Show which project is the current one",
		Example: "  cuib project get-current",
		Args:    kit.Needs(0, 0),
		RunE: func(*cobra.Command, []string) error {
			name, err := e.CurrentProject()
			if err != nil {
				return err
			}
			fmt.Fprintln(e.Out, name)
			return nil
		},
	}
}

// A usage is how much a project uses of something.
type usage struct {
	name string
	api.ProjectStateResource
}

// amount shows how much there is, in bytes where it is of that.
func (u usage) amount(n int64) string {
	kind, _, _ := strings.Cut(u.name, ".")
	if kind == "memory" || kind == "disk" {
		return kit.Size(n)
	}
	return strconv.FormatInt(n, 10)
}

// title is the name as it is shown: that of a pool stands apart.
func (u usage) title() string {
	kind, pool, ok := strings.Cut(u.name, ".")
	if ok {
		return strings.ToUpper(kind) + " (" + pool + ")"
	}
	return strings.ToUpper(kind)
}

func (u usage) limit() string {
	if u.Limit < 0 {
		return "UNLIMITED"
	}
	return u.amount(u.Limit)
}

var usageColumns = []output.Column[usage]{
	{Key: 'r', Name: "RESOURCE", Value: usage.title},
	{Key: 'l', Name: "LIMIT", Value: usage.limit},
	{Key: 'u', Name: "USAGE", Value: func(u usage) string { return u.amount(u.Usage) }},
}

func newProjectInfo(e *env) *cobra.Command {
	var v kit.ListView
	cmd := &cobra.Command{
		Use: "info PROJECT", Short: "Show how much a project uses of what it may use",
		Example: "  cuib project info lab\n  cuib project info lab --format json",
		Args:    kit.Needs(1, 1), ValidArgsFunction: e.Complete(kit.Projects, kit.None),
		RunE: kit.Named(1, func(cmd *cobra.Command, args []string) error {
			s, err := e.Client().ProjectState(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			var all []usage
			for _, name := range slices.Sorted(maps.Keys(s.Resources)) {
				all = append(all, usage{name, s.Resources[name]})
			}
			t := output.Tabulate(usageColumns, all)
			t.Data = s
			return v.Write(e.Env, t)
		}),
	}
	v.FormatFlag(cmd)
	return cmd
}
