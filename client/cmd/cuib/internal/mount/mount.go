// Package mount shows the files of an instance as a file system of this host,
// by FUSE over SFTP.
package mount

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/pkg/sftp"

	"github.com/cuib/cuib/shared/errs"
)

// device is what a kernel with FUSE has.
const device = "/dev/fuse"

// remember is how long the kernel may believe what it was told of a file. The
// instance changes its files too.
const remember = time.Second

// Serve shows the directory of an instance at target until ctx ends or
// somebody unmounts it. It calls mounted when it is there.
func Serve(ctx context.Context, c *sftp.Client, dir, target string, mounted func()) error {
	if _, err := os.Stat(device); errors.Is(err, iofs.ErrNotExist) {
		return errs.Newf(errs.Unsupported, "this host has no %s: load the kernel module fuse", device)
	}
	info, err := c.Stat(dir)
	if err != nil {
		return errs.NotFoundf("%s: no such directory", dir)
	}
	if !info.IsDir() {
		return errs.Invalidf("%s is not a directory", dir)
	}
	timeout := remember
	server, err := fs.Mount(target, &node{tree: &tree{c, dir}}, &fs.Options{
		EntryTimeout: &timeout, AttrTimeout: &timeout, NullPermissions: true,
		MountOptions: fuse.MountOptions{
			FsName: "cuib", Name: "cuib", DirectMount: os.Getuid() == 0, DisableXAttrs: true, MaxWrite: 256 << 10,
		},
	})
	if err != nil {
		return fmt.Errorf("mount at %s: %w", target, err)
	}
	mounted()
	stop := context.AfterFunc(ctx, func() { _ = server.Unmount() }) // Busy: it stays until its last user ends.
	defer stop()
	server.Wait()
	return nil
}
