// Package images keeps images: it imports, exports, builds and deletes them.
package images

import (
	"io"
	"os"

	"github.com/cuib/cuib/shared/api"
)

// Upload is an image that a client sends: a unified file, or metadata
// and rootfs.
type Upload struct {
	Project     string // Where the image is to be.
	Put         api.ImagePut
	Aliases     []api.ImageAlias
	Filename    string
	Fingerprint string    // What the client says it is; checked if not empty.
	Metadata    io.Reader // Unified if NextRootfs is nil.
	// NextRootfs is called after Metadata was read to its end, and returns
	// the rootfs and its name.
	NextRootfs func() (io.Reader, string, error)
}

// File is a file of an image.
type File struct {
	Name string // File name.
	Part string // Form name in a multipart answer: metadata or rootfs; empty for unified.
	Data *os.File
}
