package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cuib/cuib/client/cmd/cuib/internal/cli"
)

// run runs a command in process and returns what it prints.
func run(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	dir := t.TempDir()
	create := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	env := cli.Env{In: in, Out: create("out"), Err: create("err"), Build: "test", Getenv: func(name string) string {
		return map[string]string{"HOME": dir, "CUIB_DIR": dir}[name]
	}}
	status = cli.Main(t.Context(), env, args)
	for _, f := range []*os.File{env.In, env.Out, env.Err} {
		f.Close()
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	return read("out"), read("err"), status
}

// names are the lines below "Available Commands:" in a help text.
var names = regexp.MustCompile(`(?m)^  ([a-z-]+) {2,}\S`)

// helpTexts returns what --help of each command says, by the command.
func helpTexts(t *testing.T) map[string]string {
	t.Helper()
	if allHelp != nil {
		return allHelp
	}
	texts := map[string]string{}
	var walk func(path []string)
	walk = func(path []string) {
		text, _, status := run(t, append(path, "--help")...)
		if status != 0 {
			t.Fatalf("%v --help ends with %d and says %q", path, status, text)
		}
		texts[strings.Join(path, " ")] = text
		_, commands, ok := strings.Cut(text, "Available Commands:")
		if !ok {
			return
		}
		commands, _, _ = strings.Cut(commands, "\nFlags:")
		for _, m := range names.FindAllStringSubmatch(commands, -1) {
			if m[1] != "help" {
				walk(append(append([]string{}, path...), m[1]))
			}
		}
	}
	walk(nil)
	allHelp = texts
	return texts
}

// allHelp is what [helpTexts] has found.
var allHelp map[string]string

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	all := helpTexts(t)
	for path, text := range all {
		if !strings.Contains(text, "Usage:") || !strings.Contains(text, "Examples:\n  ") {
			t.Errorf("%s --help has no example, or no usage: %q", path, text)
		}
	}
	if len(all) < 100 {
		t.Errorf("only %d commands seen", len(all))
	}
}

func TestWithoutDaemon(t *testing.T) {
	out, text, status := run(t, "list")
	if status != 6 || out != "" || !strings.HasPrefix(text, "Error: no daemon at ") || strings.Count(text, "\n") != 1 {
		t.Errorf("list ends with %d and says %q, %q", status, out, text)
	}
	out, _, status = run(t, "version")
	if status != 0 || !strings.Contains(out, "Server version: unreachable") {
		t.Errorf("version ends with %d and says %q", status, out)
	}
}

func TestUnknownCommand(t *testing.T) {
	for _, args := range [][]string{{"lanch", "tiny"}, {"--quiet", "lanch"}} {
		if _, text, status := run(t, args...); status != 2 || text != "Error: unknown command \"lanch\" for \"cuib\": did you mean launch?\n" {
			t.Errorf("%v ends with %d and says %q", args, status, text)
		}
	}
	if out, _, status := run(t); status != 0 || !strings.Contains(out, "Available Commands:") {
		t.Errorf("without a command it ends with %d and says %q", status, out)
	}
	if out, _, status := run(t, "--version"); status != 0 || !strings.HasPrefix(out, "cuib ") || strings.Count(out, "\n") != 1 {
		t.Errorf("--version ends with %d and says %q", status, out)
	}
}

// What would be ignored is refused.
func TestListsTakeNoNames(t *testing.T) {
	for _, command := range []string{"profile list", "project list", "network zone list", "monitor"} {
		if _, text, status := run(t, append(strings.Fields(command), "web")...); status != 2 || !strings.HasPrefix(text, "Error: too many arguments: usage: cuib "+command) {
			t.Errorf("%s web ends with %d and says %q", command, status, text)
		}
		if _, text, status := run(t, append(strings.Fields(command), "local:")...); status != 6 {
			t.Errorf("%s local: ends with %d and says %q", command, status, text)
		}
	}
}

// What errors name can be a guest's choice.
func TestErrorsArePlain(t *testing.T) {
	if _, text, status := run(t, "list", "--a\x1b[31m"); status != 2 || strings.Contains(text, "\x1b") || !strings.Contains(text, "--a\ufffd[31m") {
		t.Errorf("it ends with %d and says %q", status, text)
	}
}

func TestCompletionAndPages(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, _, status := run(t, "completion", shell); status != 0 || !strings.Contains(out, "__complete") {
			t.Errorf("completion %s ends with %d and says %.80q", shell, status, out)
		}
	}
	if _, text, status := run(t, "completion", "csh"); status != 2 || !strings.Contains(text, "csh") {
		t.Errorf("completion csh ends with %d and says %q", status, text)
	}
	dir := filepath.Join(t.TempDir(), "man")
	if _, text, status := run(t, "manpage", dir); status != 0 {
		t.Fatalf("manpage ends with %d and says %q", status, text)
	}
	page, err := os.ReadFile(filepath.Join(dir, "cuib-snapshot-create.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".TH \"CUIB-SNAPSHOT-CREATE\" 1", `\-\-expires STRING`, ".SH EXAMPLES", `cuib snapshot create web fresh`} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
}

// TestReference compares docs/cli.md with the help texts. With
// CUIB_UPDATE_DOCS=1 it makes the document anew.
func TestReference(t *testing.T) {
	const file = "../../../../../docs/cli.md"
	want, _, status := run(t, "manpage", "--markdown")
	if status != 0 {
		t.Fatal("manpage --markdown fails")
	}
	if os.Getenv("CUIB_UPDATE_DOCS") != "" {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/cli.md is not what the help texts say: run this test with CUIB_UPDATE_DOCS=1")
	}
}
