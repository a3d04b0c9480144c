package kit

import (
	"bytes"
	"context"
)

// EditText lets the user edit a text, or takes it from the standard input, and
// hands it to write if it has changed.
func (e *Env) EditText(ctx context.Context, read func() (string, error), write func(text string) error) error {
	text, err := e.piped()
	if err != nil {
		return err
	}
	if len(text) > 0 {
		return write(string(text))
	}
	old, err := read()
	if err != nil {
		return err
	}
	if text, err = e.editText(ctx, []byte(old)); err != nil {
		return err
	}
	if bytes.Equal(text, []byte(old)) {
		return nil
	}
	return write(string(text))
}

// PipedText returns what is on the standard input, if that is no terminal.
func (e *Env) PipedText() (string, error) {
	text, err := e.piped()
	return string(text), err
}

// Templates completes templates of the instance that is the first argument.
func Templates(ctx context.Context, e *Env, args []string) ([]string, error) {
	return e.Client().InstanceTemplates(ctx, args[0])
}
