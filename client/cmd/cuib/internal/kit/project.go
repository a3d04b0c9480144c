package kit

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cuib/cuib/client"
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// projectVariable is the variable of the environment that chooses a project.
const projectVariable = "CUIB_PROJECT"

// A chooser is who has chosen the current project.
type chooser int

const (
	byNobody chooser = iota
	byFlag
	byEnvironment
	bySwitch
)

// chosen finds out which project is the current one.
func (e *Env) chosen() (name string, by chooser, err error) {
	if e.Project != "" {
		return e.Project, byFlag, nil
	}
	if name := e.Getenv(projectVariable); name != "" {
		return name, byEnvironment, nil
	}
	c, err := e.UserConfig()
	if c.Project != "" {
		return c.Project, bySwitch, err
	}
	return project.Default, byNobody, err
}

// CurrentProject is the project that commands are about: the one of --project,
// else of CUIB_PROJECT, else the one that was switched to.
func (e *Env) CurrentProject() (string, error) {
	name, _, err := e.chosen()
	return name, err
}

// Begin has the client do what the flags of all commands say.
func (e *Env) Begin() error {
	if e.Debug {
		e.Client().Trace = e.Trace
	}
	name, err := e.CurrentProject()
	if err == nil {
		e.Client().Use(name)
	}
	return err
}

// SwitchProject makes a project the current one of commands to come.
func (e *Env) SwitchProject(name string) error {
	if name == project.Default {
		name = ""
	}
	if err := e.ChangeUserConfig(func(c *UserConfig) error { c.Project = name; return nil }); err != nil {
		return err
	}
	if other := e.Getenv(projectVariable); other != "" && cmp.Or(name, project.Default) != other {
		e.Warn("%s is set: the current project stays %s while it is", projectVariable, other)
	}
	return nil
}

// LeaveProject is for a project that was deleted or, if to is not empty,
// renamed: it is not the one to be in any more.
func (e *Env) LeaveProject(name, to string) error {
	c, err := e.UserConfig()
	if err != nil || c.Project != name {
		return err
	}
	return e.SwitchProject(cmp.Or(to, project.Default))
}

// Explain adds to an error that something does not exist what can be done if
// that is for want of the current project.
func (e *Env) Explain(ctx context.Context, err error) error {
	if !errs.Is(err, errs.NotFound) {
		return err
	}
	name, by, _ := e.chosen()
	remedy := map[chooser]string{
		byEnvironment: "set " + projectVariable + " to another one, or unset it",
		bySwitch:      `"cuib project switch default" leaves it`,
	}[by]
	if remedy == "" {
		return err
	}
	if _, _, perr := e.Client().Project(ctx, name); !errs.Is(perr, errs.NotFound) {
		return err
	}
	return fmt.Errorf("%w (the current project is %s, which does not exist: %s)", err, name, remedy)
}

// A Target is the flag --target-project of commands that copy or move.
type Target struct{ project string }

// Flag adds the flag.
func (t *Target) Flag(e *Env, cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.project, "target-project", "", "project to bring it to, instead of the one that it is in")
	e.CompleteFlag(cmd, "target-project", Projects)
}

// Client returns the client for where things go.
func (t *Target) Client(e *Env) *client.Client {
	if t.project == "" {
		return e.Client()
	}
	return e.Client().In(t.project)
}

// Projects returns from which project to which one things go; both are empty if
// they stay in theirs.
func (t *Target) Projects(e *Env) (from, to string, err error) {
	from, err = e.CurrentProject()
	if err != nil || t.project == "" || t.project == from {
		return "", "", err
	}
	return from, t.project, nil
}

// Names completes names of what there is where things go.
func (t *Target) Names(names func(c *client.Client, ctx context.Context) ([]string, error)) Completer {
	return func(ctx context.Context, e *Env, _ []string) ([]string, error) { return names(t.Client(e), ctx) }
}

// AllProjects is the flag --all-projects of commands that list.
type AllProjects struct{ Set bool }

// Flag adds the flag.
func (a *AllProjects) Flag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.Set, "all-projects", false, "of all projects, and not only of the current one")
}

// Client returns the client to list by.
func (a *AllProjects) Client(e *Env) (*client.Client, error) {
	switch {
	case !a.Set:
		return e.Client(), nil
	case e.Project != "":
		return nil, errs.Invalidf("--project is %q: it does not go with --all-projects", e.Project)
	}
	return e.Client().Everywhere(), nil
}

// Of returns the client for an object of a list, which is of the given project.
func (a *AllProjects) Of(e *Env, project string) *client.Client {
	if !a.Set {
		return e.Client()
	}
	return e.Client().In(project)
}

// projectColumn is the name of the column that says in which project something
// is.
const projectColumn = "PROJECT"

// AddColumn has a list of all projects say in which one each object is, unless
// the user has chosen the columns.
func AddColumn[T any](a AllProjects, cmd *cobra.Command, columns []output.Column[T], v *ListView) {
	if !a.Set || cmd.Flag("columns").Changed {
		return
	}
	for _, c := range columns {
		if c.Name == projectColumn {
			v.Columns = string(c.Key) + v.Columns
		}
	}
}

// Reference is how the URL of an object is shown.
func Reference(u string) string {
	name, query, _ := strings.Cut(strings.TrimPrefix(u, "/1.0/"), "?")
	if in := inProject(query); in != "" {
		return name + " (project " + in + ")"
	}
	return name
}

// ProjectOf returns the project of an object from its URL.
func ProjectOf(u string) string {
	_, query, _ := strings.Cut(u, "?")
	return cmp.Or(inProject(query), project.Default)
}

func inProject(query string) string {
	values, err := url.ParseQuery(query)
	if err != nil {
		return ""
	}
	return values.Get("project")
}
