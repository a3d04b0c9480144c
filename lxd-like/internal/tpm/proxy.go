package tpm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/errs"
)

// A Proxy makes devices by the kernel's tpm_vtpm_proxy.
type Proxy struct {
	Root string // Of the host's /dev and /sys; empty for /.

	// Load loads a module of the kernel.
	Load func(ctx context.Context, module string) error
}

const (
	controlFile = "/dev/vtpmx"
	module      = "tpm_vtpm_proxy"
)

func (p Proxy) control() string { return filepath.Join(p.Root, controlFile) }

// Check implements [Maker].
func (p Proxy) Check(ctx context.Context) error {
	_, err := os.Stat(p.control())
	if errors.Is(err, fs.ErrNotExist) && p.Load != nil {
		if lerr := p.Load(ctx, module); lerr != nil {
			return errs.Newf(errs.Unsupported, "a TPM needs %s of the host's kernel, which its module %s has: %w", controlFile, module, lerr)
		}
		_, err = os.Stat(p.control())
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errs.Newf(errs.Unsupported, "a TPM needs %s of the host's kernel, which lacks it (CONFIG_TCG_VTPM_PROXY)", controlFile)
	}
	return err
}

// newDevice is struct vtpm_proxy_new_dev of the kernel.
type newDevice struct {
	flags, number, fd, major, minor uint32
}

const (
	// VTPM_PROXY_IOC_NEW_DEV, and its flag for a TPM 2.0.
	newDeviceCall = 0xc014a100
	version2      = 1
)

// New implements [Maker].
func (p Proxy) New() (server *os.File, number int, err error) {
	control, err := os.OpenFile(p.control(), os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer control.Close()
	d := newDevice{flags: version2}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), newDeviceCall, uintptr(unsafe.Pointer(&d))); errno != 0 { //nolint:gosec // The kernel fills it.
		return nil, 0, fmt.Errorf("make a TPM by %s: %w", controlFile, errno)
	}
	unix.CloseOnExec(int(d.fd))
	return os.NewFile(uintptr(d.fd), "tpm"), int(d.number), nil
}

// How long the kernel has to make nodes once somebody answers, which takes the
// tests that a TPM makes of itself, and how often they are looked for.
const (
	awaitTime  = 20 * time.Second
	awaitPause = 5 * time.Millisecond
)

// Await implements [Maker].
func (p Proxy) Await(ctx context.Context, number int) (Nodes, error) {
	timed, cancel := context.WithTimeoutCause(ctx, awaitTime, errs.Newf(errs.Unavailable, "the kernel has made no TPM within %s", awaitTime))
	defer cancel()
	for {
		device, derr := p.number("tpm", number)
		manager, merr := p.number("tpmrm", number)
		if derr == nil && merr == nil {
			return Nodes{device, manager}, nil
		}
		select {
		case <-timed.Done():
			return Nodes{}, context.Cause(timed)
		case <-time.After(awaitPause):
		}
	}
}

func (p Proxy) number(class string, n int) (Number, error) {
	file := filepath.Join(p.Root, "/sys/class", class, class+strconv.Itoa(n), "dev")
	data, err := os.ReadFile(file)
	if err != nil {
		return Number{}, err
	}
	a, b, ok := strings.Cut(strings.TrimSpace(string(data)), ":")
	major, aerr := strconv.ParseUint(a, 10, 32)
	minor, berr := strconv.ParseUint(b, 10, 32)
	if !ok {
		return Number{}, fmt.Errorf("%s has %q", file, data)
	}
	return Number{uint32(major), uint32(minor)}, errors.Join(aerr, berr)
}
