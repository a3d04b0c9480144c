package rest

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

func (s *Server) listImages(r *http.Request) (response, error) {
	all, err := s.Images.List(r.Context())
	all = ofImages(r, all, func(i api.Image) string { return i.Project })
	return list(r, all, err, imageURL)
}

func (s *Server) image(r *http.Request) (whole, writable any, err error) {
	i, err := s.Images.Get(r.Context(), r.PathValue("fingerprint"))
	return i, i.ImagePut, err
}

func (s *Server) getImage(r *http.Request) (response, error) { return read(r, s.image) }

func (s *Server) putImage(r *http.Request) (response, error) {
	return replace(r, s.image, s.Images.Update)
}

func (s *Server) patchImage(r *http.Request) (response, error) {
	return change(r, s.image, s.Images.Update)
}

func (s *Server) deleteImage(r *http.Request) (response, error) {
	job, err := s.Images.Delete(r.Context(), r.PathValue("fingerprint"))
	return s.start(r, job, err)
}

// createImage takes an upload, or makes an image of what the body says.
func (s *Server) createImage(r *http.Request) (response, error) {
	if isJSON(r) {
		return s.makeImage(r)
	}
	up, err := upload(r)
	if err != nil {
		return nil, err
	}
	up.Project = view(r).Images
	job, err := s.Images.Import(r.Context(), up)
	return s.start(r, job, err)
}

// makeImage makes an image of what the body says.
func (s *Server) makeImage(r *http.Request) (response, error) {
	body, err := decode[api.ImagesPost](r)
	if err != nil {
		return nil, err
	}
	if body.Source == nil {
		return nil, errs.Invalidf("field \"source\" is missing in the request body")
	}
	if err := s.checkServer(r, body.Source.Server); err != nil {
		return nil, err
	}
	if t := body.Source.Type; body.Source.Mode == "push" && (t == "" || t == "image") {
		return s.awaitImage(r, body)
	}
	if err := sourceKeys(r, body.Source); err != nil {
		return nil, err
	}
	job, err := s.Images.Make(r.Context(), view(r).Images, body)
	return s.start(r, job, err)
}

// sourceKeys translates what depends on the type of an image's source: the name
// is that of an instance, unless it says what to build, and another image is
// looked for where its project has images.
func sourceKeys(r *http.Request, src *api.ImagesPostSource) error {
	switch src.Type {
	case "build":
		src.Name = project.InstanceName(src.Name)
	case "image":
		in := view(r)
		of, err := in.views.View(r.Context(), orDefault(src.Project, in.Project))
		src.Project = of.Images
		return err
	}
	return nil
}

// upload reads the headers of an upload and finds its parts.
func upload(r *http.Request) (images.Upload, error) {
	up := images.Upload{Filename: header(r, "Filename"), Fingerprint: header(r, "Fingerprint"), Metadata: r.Body}
	if err := uploadHeaders(r, &up); err != nil {
		return up, err
	}
	typ, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return up, errs.Invalidf("header Content-Type: %w", err)
	}
	switch typ {
	case "application/octet-stream":
		return up, nil
	case "multipart/form-data":
	default:
		return up, errs.Invalidf("header Content-Type is %q: want application/json, application/octet-stream or multipart/form-data", typ)
	}
	parts := multipart.NewReader(r.Body, params["boundary"])
	metadata, err := nextPart(parts, "metadata")
	if err != nil {
		return up, err
	}
	up.Metadata = metadata
	up.Filename = orDefault(metadata.FileName(), up.Filename)
	up.NextRootfs = func() (io.Reader, string, error) {
		part, err := nextPart(parts, "rootfs", "rootfs.img")
		if err != nil {
			return nil, "", err
		}
		return part, part.FileName(), nil
	}
	return up, nil
}

// nextPart returns the next part of an upload, which has to have one of the
// given names.
func nextPart(parts *multipart.Reader, names ...string) (*multipart.Part, error) {
	want := strings.Join(names, " or ")
	part, err := parts.NextRawPart()
	if err != nil {
		return nil, errs.Invalidf("upload: part %s is missing: %w", want, err)
	}
	for _, name := range names {
		if part.FormName() == name {
			return part, nil
		}
	}
	return nil, errs.Invalidf("upload: a part has the name %q: want %s", part.FormName(), want)
}

func uploadHeaders(r *http.Request, up *images.Upload) error {
	if text := header(r, "Public"); text != "" {
		public, err := strconv.ParseBool(text)
		if err != nil {
			return errs.Invalidf("header X-Incus-public is %q: want true or false", text)
		}
		up.Put.Public = public
	}
	properties, err := url.ParseQuery(header(r, "Properties"))
	if err != nil {
		return errs.Invalidf("header X-Incus-properties: %w", err)
	}
	up.Put.Properties = map[string]string{}
	for key, values := range properties {
		up.Put.Properties[key] = values[0]
	}
	profiles, err := url.ParseQuery(header(r, "Profiles"))
	if err != nil {
		return errs.Invalidf("header X-Incus-profiles: %w", err)
	}
	up.Put.Profiles = profiles["profile"]
	aliases, err := url.ParseQuery(header(r, "Aliases"))
	if err != nil {
		return errs.Invalidf("header X-Incus-aliases: %w", err)
	}
	for _, name := range aliases["alias"] {
		up.Aliases = append(up.Aliases, api.ImageAlias{Name: name})
	}
	return nil
}

// getImagePart answers with what is below an image's URL.
func (s *Server) getImagePart(r *http.Request) (response, error) {
	if what := r.PathValue("what"); what != "export" {
		return nil, errs.NotFoundf("there is no %s", r.URL.Path)
	}
	image, err := s.Images.Get(r.Context(), r.PathValue("fingerprint"))
	if err != nil {
		return nil, err
	}
	if err := s.spendSecret(r, image); err != nil {
		return nil, err
	}
	files, err := s.Images.Export(r.Context(), r.PathValue("fingerprint"))
	if err != nil {
		return nil, err
	}
	if len(files) == 1 {
		return exportOne(files[0])
	}
	return exportParts(files), nil
}

func exportOne(f images.File) (response, error) {
	st, err := f.Data.Stat()
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return raw{data: f.Data, name: f.Name, size: st.Size()}.response(), nil
}

// exportParts sends the files of a split image as the parts of one answer.
func exportParts(files []images.File) response {
	return func(w http.ResponseWriter, r *http.Request) error {
		mw := multipart.NewWriter(w)
		w.Header().Set("Content-Type", mw.FormDataContentType())
		w.WriteHeader(http.StatusOK)
		broken := false // The client is gone.
		for _, f := range files {
			if !broken && r.Method != http.MethodHead {
				broken = writePart(mw, f) != nil
			}
			f.Data.Close()
		}
		if !broken {
			_ = mw.Close() // Likewise.
		}
		return nil
	}
}

func writePart(mw *multipart.Writer, f images.File) error {
	part, err := mw.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf("form-data; name=%q; filename=%q", f.Part, f.Name)},
		"Content-Type":        {"application/octet-stream"},
	})
	if err != nil {
		return err
	}
	_, err = io.Copy(part, f.Data)
	return err
}
