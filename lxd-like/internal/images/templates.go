package images

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/flosch/pongo2/v6"
	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/inroot"
	"github.com/cuib/cuib/shared/project"
)

// Trigger is an event at which templates are rendered.
type Trigger string

// The triggers. Each comes when an instance starts: create, copy and rename
// at the first start after that, and start at every one.
const (
	OnCreate Trigger = "create"
	OnCopy   Trigger = "copy"
	OnRename Trigger = "rename"
	OnStart  Trigger = "start"
)

// How large a template can be, and what it becomes. The parser's depth is as
// that of the template's parentheses, and Go's stacks have an end.
const (
	maxTemplate = 32 << 10
	maxRendered = 4 << 20
)

// Vars are what templates can ask for.
type Vars struct {
	Name         string
	Architecture string
	Ephemeral    bool
	Privileged   bool
	Config       map[string]string
	Devices      map[string]map[string]string
}

// RenderTemplates renders the templates that trigger asks for. The directory
// dir holds templates and rootfs, as [Service.Volume] has it, with the ids of
// the guest. All that is read and written stays below these two, whatever
// links the guest has made.
func RenderTemplates(dir string, meta api.ImageMetadata, trigger Trigger, vars Vars) error {
	targets := slices.DeleteFunc(slices.Sorted(maps.Keys(meta.Templates)), func(target string) bool {
		t := meta.Templates[target]
		return t == nil || !slices.Contains(t.When, string(trigger))
	})
	if len(targets) == 0 {
		return nil
	}
	r := renderer{trigger: trigger, vars: vars}
	for name, f := range map[string]**os.File{templatesDir: &r.templates, rootfsDir: &r.rootfs} {
		open, err := os.OpenFile(filepath.Join(dir, name), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer open.Close() //nolint:revive // There are two.

		*f = open
	}
	for _, target := range targets {
		if err := r.render(target, meta.Templates[target]); err != nil {
			return fmt.Errorf("render template of %q: %w", target, err)
		}
	}
	return nil
}

type renderer struct {
	templates, rootfs *os.File
	trigger           Trigger
	vars              Vars
}

func (r renderer) render(target string, t *api.ImageMetadataTemplate) error {
	if err := checkTemplate(target, t); err != nil {
		return err
	}
	if t.CreateOnly {
		f, err := inroot.Open(r.rootfs, target, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err == nil {
			return f.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	source, err := r.read(t.Template)
	if err != nil {
		return err
	}
	text, err := renderText(source, r.context(target, t))
	if err != nil {
		return err
	}
	return r.write(target, t, text)
}

func (r renderer) read(name string) (string, error) {
	f, err := inroot.Open(r.templates, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()

	data, err := io.ReadAll(io.LimitReader(f, maxTemplate+1))
	if err == nil && len(data) > maxTemplate {
		err = errs.Invalidf("template %q is larger than %d bytes", name, maxTemplate)
	}
	return string(data), err
}

// write replaces the contents of a file. One that exists keeps owner and mode
// unless the template says otherwise.
func (r renderer) write(target string, t *api.ImageMetadataTemplate, text string) error {
	parent, base, err := inroot.Parent(r.rootfs, target)
	if err != nil {
		return err
	}
	defer parent.Close()

	mode, err := parseMode(t.Mode)
	if err != nil {
		return err
	}
	// Without O_EXCL a link at the end is followed, as in the guest; inroot
	// makes that harmless. O_NONBLOCK is for a fifo that waits there.
	f, err := inroot.Open(r.rootfs, target, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	created := errors.Is(err, fs.ErrNotExist)
	if created {
		// What is there is at most a link to nothing: it makes room.
		if err := unix.Unlinkat(int(parent.Fd()), base, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		f, err = inroot.Open(r.rootfs, target, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	defer f.Close()

	if err := fill(f, text); err != nil {
		return err
	}
	if err := dress(f, t, mode, created); err != nil {
		return err
	}
	return f.Close()
}

func fill(f *os.File, text string) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return errs.Invalidf("it is a %s, not a file", st.Mode().Type())
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return err
}

func dress(f *os.File, t *api.ImageMetadataTemplate, mode uint32, created bool) error { //nolint:revive // Not exported.
	uid, err := parseID(t.UID)
	if err != nil {
		return err
	}
	gid, err := parseID(t.GID)
	if err != nil {
		return err
	}
	if created {
		uid, gid = max(0, uid), max(0, gid)
	}
	if err := f.Chown(uid, gid); err != nil {
		return err
	}
	if !created && t.Mode == "" {
		return nil
	}
	return unix.Fchmod(int(f.Fd()), mode)
}

func (r renderer) context(target string, t *api.ImageMetadataTemplate) pongo2.Context {
	instance := map[string]string{
		"name":         project.InstanceName(r.vars.Name),
		"type":         "container",
		"architecture": r.vars.Architecture,
		"privileged":   strconv.FormatBool(r.vars.Privileged),
		"ephemeral":    strconv.FormatBool(r.vars.Ephemeral),
	}
	return pongo2.Context{
		"trigger":    string(r.trigger),
		"path":       target,
		"container":  instance, // The older name.
		"instance":   instance,
		"config":     r.vars.Config,
		"devices":    r.vars.Devices,
		"properties": t.Properties,
		"config_get": func(key, fallback *pongo2.Value) *pongo2.Value {
			if value, ok := r.vars.Config[key.String()]; ok {
				return pongo2.AsValue(value)
			}
			return fallback
		},
	}
}

// noFiles is a loader of templates that has none: templates of images reach
// for no other file, on the host least of all.
type noFiles struct{}

func (noFiles) Abs(_, name string) string { return name }

func (noFiles) Get(path string) (io.Reader, error) {
	return nil, errs.Invalidf("template %q: a template cannot use another one", path)
}

// What templates cannot use: tags that read files, a tag that recurs, and all
// that makes much of little. Images come from strangers, and a daemon that has
// no memory left ends.
var (
	bannedTags = []string{
		"extends", "import", "include", "ssi",
		"macro",
		"filter", "ifchanged", "lorem", "set", "spaceless", "with",
	}
	bannedFilters = []string{"add", "addslashes", "center", "floatformat", "join", "ljust", "rjust", "stringformat"}
)

// newTemplates returns a set of templates that do no harm. One set is not
// safe for concurrent use.
func newTemplates() (*pongo2.TemplateSet, error) {
	set := pongo2.NewSet("image", noFiles{})
	for _, tag := range bannedTags {
		if err := set.BanTag(tag); err != nil {
			return nil, err
		}
	}
	for _, filter := range bannedFilters {
		if err := set.BanFilter(filter); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// A limited collects a text that is not too long. Templates go on after an
// error of writing, so it keeps that.
type limited struct {
	text strings.Builder
	err  error
}

// Write implements [io.Writer].
func (l *limited) Write(b []byte) (int, error) {
	if l.err == nil && l.text.Len()+len(b) > maxRendered {
		l.err = errs.Invalidf("it becomes larger than %d bytes", maxRendered)
	}
	if l.err != nil {
		return 0, l.err
	}
	return l.text.Write(b)
}

func renderText(source string, vars pongo2.Context) (string, error) {
	set, err := newTemplates()
	if err != nil {
		return "", err
	}
	t, err := set.FromString("{% autoescape off %}" + source + "{% endautoescape %}")
	if err != nil {
		return "", errs.Newf(errs.Invalid, "%w", err)
	}
	var text limited
	if err := t.ExecuteWriterUnbuffered(vars, &text); err != nil {
		return "", errs.Newf(errs.Invalid, "%w", err)
	}
	return text.text.String(), text.err
}
