// Package guestfs reads and writes the files of an instance without ever being
// led out of it by a symbolic link, and with the ids that the instance has.
package guestfs

import (
	"io"
	"time"
)

// FS is an instance's file system. Paths are absolute, of the guest;
// symbolic links never lead out of it.
type FS interface {
	Stat(path string) (File, error) // Does not follow a last symbolic link.
	Open(path string) (io.ReadCloser, error)
	ReadDir(path string) ([]string, error)
	ReadLink(path string) (string, error)
	// Write makes or replaces a file with what r holds, or appends to it.
	Write(path string, r io.Reader, f File, appending bool) error
	Mkdir(path string, f File) error
	Symlink(path, target string, f File) error
	Remove(path string) error // A file or an empty directory.
	Close() error
}

// File is what there is to say of a file. In Write, Mkdir and Symlink a
// negative UID or GID means root and a negative Mode the usual one; for a
// file that exists they leave it as it is.
type File struct {
	Type     string // file, directory or symlink
	UID, GID int64
	Mode     int64 // Permission bits.
	Size     int64
	Modified time.Time
}
