package runtime

import (
	"context"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// BPF says what a container may do with bpf(2).
type BPF struct {
	Path    string            // Where its file system with tokens is, absolute, inside; empty for none.
	Options map[string]string // Of that file system: what it hands on, as bpffs has it.
}

// bpfFile says what of bpf(2) a container may use: where, and the options of
// the file system, which cuib-shim mounts at each boot (bpffs.c).
const bpfFile = "bpffs"

func (r *Runtime) writeBPF(s Spec) error {
	if s.BPF.Path == "" {
		return nil
	}
	if err := checkTarget(s.BPF.Path); err != nil {
		return err
	}
	if s.IDs == nil {
		return errs.Invalidf("rights to BPF can be handed on to unprivileged instances only")
	}
	lines := []string{s.BPF.Path}
	for _, k := range sortedKeys(s.BPF.Options) {
		lines = append(lines, k+"="+s.BPF.Options[k])
	}
	return update(r.path(s.Name, bpfFile), []byte(strings.Join(lines, "\n")+"\n"))
}

// Mounting says what a container may mount whose mount(2) is intercepted: file
// systems on its block devices.
type Mounting struct {
	FileSystems []string          // By the host's kernel.
	Programs    map[string]string // By programs of the container, for file systems in user space.
	Shift       bool              // Show owners mapped by the container's ids.
}

// SetMounting changes what a running container may mount.
func (r *Runtime) SetMounting(_ context.Context, name string, m Mounting) error {
	c, _, err := r.changing(name)
	if err != nil {
		return err
	}
	defer c.change.Unlock()
	return r.respec(c, func(s *Spec) { s.Mounting = m })
}
