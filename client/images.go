package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"

	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// Images returns all images.
func (c *Client) Images(ctx context.Context) ([]api.Image, error) {
	return list[[]api.Image](ctx, c, path("images")+"?recursion=1")
}

// Image returns the image whose fingerprint begins so, and its ETag.
func (c *Client) Image(ctx context.Context, fingerprint string) (api.Image, string, error) {
	return get[api.Image](ctx, c, path("images", fingerprint))
}

// FindImage returns the image with the given alias or, failing that, the one
// whose fingerprint begins so, and its ETag.
func (c *Client) FindImage(ctx context.Context, name string) (api.Image, string, error) {
	alias, _, err := c.ImageAlias(ctx, name)
	switch {
	case err == nil:
		return c.Image(ctx, alias.Target)
	case !errs.Is(err, errs.NotFound):
		return api.Image{}, "", err
	}
	img, etag, err := c.Image(ctx, name)
	if errs.Is(err, errs.NotFound) {
		err = errs.NotFoundf("no image has the alias or the fingerprint %q", name)
	}
	return img, etag, err
}

// MakeImage makes an image of what the daemon has or can build.
func (c *Client) MakeImage(ctx context.Context, req api.ImagesPost) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodPost, path: path("images"), body: req})
}

// UpdateImage replaces the writable part of an image.
func (c *Client) UpdateImage(ctx context.Context, fingerprint string, put api.ImagePut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("images", fingerprint), body: put, etag: etag})
}

// DeleteImage deletes an image.
func (c *Client) DeleteImage(ctx context.Context, fingerprint string) (*Operation, error) {
	return c.start(ctx, call{method: http.MethodDelete, path: path("images", fingerprint)})
}

// ImageAliases returns all aliases.
func (c *Client) ImageAliases(ctx context.Context) ([]api.ImageAliasesEntry, error) {
	return list[[]api.ImageAliasesEntry](ctx, c, path("images", "aliases")+"?recursion=1")
}

// ImageAlias returns an alias and its ETag.
func (c *Client) ImageAlias(ctx context.Context, name string) (api.ImageAliasesEntry, string, error) {
	return get[api.ImageAliasesEntry](ctx, c, path("images", "aliases", name))
}

// CreateImageAlias creates an alias.
func (c *Client) CreateImageAlias(ctx context.Context, e api.ImageAliasesEntry) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("images", "aliases"), body: e})
}

// UpdateImageAlias points an alias at another image.
func (c *Client) UpdateImageAlias(ctx context.Context, name string, put api.ImageAliasesEntryPut, etag string) error {
	return c.send(ctx, call{method: http.MethodPut, path: path("images", "aliases", name), body: put, etag: etag})
}

// RenameImageAlias renames an alias.
func (c *Client) RenameImageAlias(ctx context.Context, name, to string) error {
	return c.send(ctx, call{method: http.MethodPost, path: path("images", "aliases", name), body: api.RenamePost{Name: to}})
}

// DeleteImageAlias deletes an alias.
func (c *Client) DeleteImageAlias(ctx context.Context, name string) error {
	return c.send(ctx, call{method: http.MethodDelete, path: path("images", "aliases", name)})
}

// An ImageUpload is the files of an image to import.
type ImageUpload struct {
	Meta           io.Reader // The tarball of the metadata, or of all of a unified image.
	MetaName       string    // File name.
	Rootfs         io.Reader // nil for a unified image.
	RootfsName     string
	Public         bool
	Properties     map[string]string
	Aliases        []string
	ExpectedSHA256 string // Refuses what has another fingerprint, if it is not empty.
}

// UploadImage imports an image.
func (c *Client) UploadImage(ctx context.Context, up ImageUpload) (*Operation, error) {
	q := call{method: http.MethodPost, path: path("images"), header: up.header(), body: up.Meta}
	if up.Rootfs == nil {
		return c.start(ctx, q)
	}
	r, w := io.Pipe()
	form := multipart.NewWriter(w)
	q.body = io.Reader(r)
	q.header.Set("Content-Type", form.FormDataContentType())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(up.write(form))
	}()
	op, err := c.start(ctx, q)
	r.CloseWithError(errors.New("the request has ended"))
	<-done
	return op, err
}

func (up ImageUpload) write(form *multipart.Writer) error {
	for _, part := range []struct {
		field, name string
		r           io.Reader
	}{{"metadata", up.MetaName, up.Meta}, {"rootfs", up.RootfsName, up.Rootfs}} {
		w, err := form.CreateFormFile(part.field, part.name)
		if err != nil {
			return err
		}
		if _, err := io.Copy(w, part.r); err != nil {
			return fmt.Errorf("send %s: %w", part.name, err)
		}
	}
	return form.Close()
}

// header returns the headers that describe the image. The values of aliases
// and properties are query strings.
func (up ImageUpload) header() http.Header {
	h := http.Header{}
	h.Set("X-Incus-Filename", up.MetaName)
	if up.Public {
		h.Set("X-Incus-Public", "true")
	}
	if up.ExpectedSHA256 != "" {
		h.Set("X-Incus-Fingerprint", up.ExpectedSHA256)
	}
	if len(up.Properties) > 0 {
		v := url.Values{}
		for key, value := range up.Properties {
			v.Set(key, value)
		}
		h.Set("X-Incus-Properties", v.Encode())
	}
	if len(up.Aliases) > 0 {
		h.Set("X-Incus-Aliases", url.Values{"alias": up.Aliases}.Encode())
	}
	return h
}

// ExportImage gives create the files of an image, one after the other; it
// returns where each one goes.
func (c *Client) ExportImage(ctx context.Context, fingerprint string, create func(name string) (io.WriteCloser, error)) error {
	resp, err := c.do(ctx, call{method: http.MethodGet, path: path("images", fingerprint, "export")})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		_, err := open(resp)
		return err
	}
	typ, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil && typ == "multipart/form-data" {
		return saveParts(multipart.NewReader(resp.Body, params["boundary"]), create)
	}
	_, disposition, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition"))
	name := disposition["filename"]
	if err != nil || name == "" {
		name = fingerprint
	}
	return save(create, name, resp.Body)
}

func saveParts(form *multipart.Reader, create func(string) (io.WriteCloser, error)) error {
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read image: %w", err)
		}
		if err := save(create, part.FileName(), part); err != nil {
			return err
		}
	}
}

func save(create func(string) (io.WriteCloser, error), name string, r io.Reader) error {
	w, err := create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("save %s: %w", name, err)
	}
	return nil
}
