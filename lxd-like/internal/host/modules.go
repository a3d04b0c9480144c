package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/run"
)

// LoadModules loads modules of the kernel that are not loaded yet. It does
// nothing for those that are built in.
func LoadModules(ctx context.Context, names []string) error {
	for _, name := range names {
		// Signs are as good as each other for the programs, but not there.
		at := filepath.Join("/sys/module", strings.ReplaceAll(name, "-", "_"))
		if _, err := os.Stat(at); err == nil {
			continue
		}
		if err := run.Look("modprobe", "kmod"); err != nil {
			return fmt.Errorf("kernel module %q: %w", name, err)
		}
		if _, err := run.Cmd(ctx, "modprobe", "--", name); err != nil {
			return errs.Invalidf("kernel module %q cannot be loaded: %w", name, err)
		}
	}
	return nil
}
