package kit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/run"
)

// An Edit is an object that is changed as YAML.
type Edit struct {
	Help string // Comment above the text.
	Read func() (object any, etag string, err error)
	// Write decodes the text and stores it; etag is empty for what did not
	// come from an editor.
	Write func(text []byte, etag string) error
}

// Edit takes the new text from the standard input if it is piped there, else
// from the user's editor. A text that is refused can be edited again.
func (e *Env) Edit(ctx context.Context, o Edit) error {
	text, err := e.piped()
	if err != nil {
		return err
	}
	if len(text) > 0 {
		return o.Write(text, "")
	}
	object, etag, err := o.Read()
	if err != nil {
		return err
	}
	var old bytes.Buffer
	for line := range bytes.Lines([]byte(o.Help)) {
		fmt.Fprintf(&old, "### %s", line)
	}
	old.WriteString("\n")
	if err := output.YAML(&old, object); err != nil {
		return err
	}
	text = old.Bytes()
	for {
		if text, err = e.editText(ctx, text); err != nil {
			return err
		}
		if bytes.Equal(text, old.Bytes()) {
			return nil
		}
		err = o.Write(text, etag)
		if err == nil || errs.Is(err, errs.Stale) || errs.Is(err, errs.Unavailable) {
			return err
		}
		fmt.Fprintln(e.Err, "Error:", err)
		if !e.Confirm("Edit again?") {
			return StatusError(1)
		}
	}
}

// editText lets the user edit a text.
func (e *Env) editText(ctx context.Context, text []byte) ([]byte, error) {
	f, err := os.CreateTemp("", "cuib-*.yaml")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	if err := e.EditFile(ctx, f.Name()); err != nil {
		return nil, err
	}
	return os.ReadFile(f.Name())
}

// EditFile runs the user's editor, which $VISUAL or $EDITOR name with its
// options.
func (e *Env) EditFile(ctx context.Context, name string) error {
	editor := e.Getenv("VISUAL")
	if editor == "" {
		editor = e.Getenv("EDITOR")
	}
	for _, usual := range []string{"editor", "nano", "vi"} {
		if editor != "" {
			break
		}
		if _, err := exec.LookPath(usual); err == nil {
			editor = usual
		}
	}
	if editor == "" {
		return errs.Newf(errs.Unsupported, "no editor found: set $EDITOR")
	}
	terminal := run.Terminal{In: e.In, Out: e.Out, Err: e.Err}
	err := terminal.Run(ctx, "sh", "-c", editor+` "$1"`, editor, name)
	if failed, ok := errors.AsType[*run.Error](err); ok {
		return fmt.Errorf("nothing changed: the editor %q failed: %w", editor, failed.Err)
	}
	return err
}

// Confirm asks a question and tells whether the answer is yes.
func (e *Env) Confirm(question string) bool {
	fmt.Fprintf(e.Err, "%s (yes/no) [no]: ", question)
	line, _ := bufio.NewReader(e.In).ReadString('\n') // No answer means no.
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}
