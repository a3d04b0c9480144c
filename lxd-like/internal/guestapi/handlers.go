package guestapi

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/images"
	"github.com/cuib/cuib/lxd-like/internal/instances"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/pause"
	"github.com/cuib/cuib/shared/project"
)

// changeWait is how long a change of the state waits when there were many.
const changeWait = 2 * time.Second

// a handle answers a request of a guest.
type handle func(w http.ResponseWriter, r *http.Request, d *door) error

// handler is the table of what can be asked, as LXD and Incus have it.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	handles := map[string]handle{
		"GET /{$}":                             s.versions,
		"GET /1.0":                             s.describe,
		"PATCH /1.0":                           s.setState,
		"GET /1.0/config":                      s.keys,
		"GET /1.0/devices":                     s.devices,
		"GET /1.0/events":                      s.events,
		"GET /1.0/meta-data":                   s.metaData,
		"GET /1.0/config/{key...}":             s.key,
		"GET /1.0/images/{fingerprint}/export": s.image,
	}
	if s.Volumes != nil {
		maps.Copy(handles, s.volumeHandles())
	}
	for pattern, h := range handles {
		mux.Handle(pattern, s.guarded(h))
	}
	return mux
}

// guarded lets only the guest's root ask, and not more often than it may.
func (s *Server) guarded(h handle) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, ok := r.Context().Value(connKey{}).(*conn)
		if !ok || !c.root {
			http.Error(w, "not authorized: only root of the instance may ask", http.StatusUnauthorized)
			return
		}
		s.mu.Lock()
		wait := c.d.requests.take(time.Now())
		s.mu.Unlock()
		if pause.For(r.Context(), wait) != nil {
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := h(w, r, c.d); err != nil {
			s.fail(w, r, c.d, err)
		}
	})
}

// mayChange waits until a guest may change something, which it may less often
// than ask. If it may not, the answer is given, or the request was given up.
func (s *Server) mayChange(w http.ResponseWriter, r *http.Request, d *door) (bool, error) {
	s.mu.Lock()
	wait := d.changes.wait(time.Now())
	if wait <= changeWait {
		d.changes.take(time.Now())
	}
	s.mu.Unlock()
	if wait > changeWait {
		http.Error(w, "too many changes", http.StatusTooManyRequests)
		return false, nil
	}
	if err := pause.For(r.Context(), wait); err != nil {
		return false, err
	}
	return true, nil
}

// fail answers with an error. What went wrong in the daemon is not the
// guest's business.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, d *door, err error) {
	code, text := errs.Status(err), err.Error()
	if code == http.StatusInternalServerError {
		if r.Context().Err() == nil {
			s.Log.ErrorContext(r.Context(), "cannot answer a guest", "instance", d.name, "path", r.URL.Path, "err", err)
		}
		text = "internal error"
	}
	http.Error(w, project.Text(project.OfInstance(d.name), text), code)
}

// view reads what the guest may know of its instance.
func (s *Server) view(r *http.Request, d *door) (instances.GuestView, error) {
	select {
	case s.active <- struct{}{}:
	case <-r.Context().Done():
		return instances.GuestView{}, r.Context().Err()
	}
	defer func() { <-s.active }()
	return s.Instances.GuestView(r.Context(), d.name)
}

func sendJSON(w http.ResponseWriter, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n')) // The guest may be gone.
	return nil
}

func sendText(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "application/octet-stream") // As the peers have it.
	_, _ = io.WriteString(w, text)                             // The guest may be gone.
	return nil
}

func (*Server) versions(w http.ResponseWriter, _ *http.Request, _ *door) error {
	return sendJSON(w, []string{"/1.0"})
}

func (s *Server) describe(w http.ResponseWriter, r *http.Request, d *door) error {
	v, err := s.view(r, d)
	if err != nil {
		return err
	}
	location, err := os.Hostname()
	if err != nil {
		return err
	}
	g := api.Guest{APIVersion: "1.0", Location: location, InstanceType: "container"}
	g.State = "Started"
	if v.Ready {
		g.State = api.Ready.String()
	}
	return sendJSON(w, g)
}

// setState takes note of a guest that says that it is ready, or not any more.
func (s *Server) setState(w http.ResponseWriter, r *http.Request, d *door) error {
	var put api.GuestPut
	if err := json.NewDecoder(r.Body).Decode(&put); err != nil {
		return errs.Invalidf("the request is not JSON: %w", err)
	}
	ready := instances.NotReady
	switch put.State {
	case "Started":
	case api.Ready.String():
		ready = instances.IsReady
	default:
		return errs.Invalidf("state is %q: want Started or Ready", put.State)
	}
	if ok, err := s.mayChange(w, r, d); !ok {
		return err
	}
	if err := s.Instances.SetReady(r.Context(), d.name, ready); err != nil {
		return err
	}
	return sendText(w, "")
}

func (s *Server) keys(w http.ResponseWriter, r *http.Request, d *door) error {
	v, err := s.view(r, d)
	if err != nil {
		return err
	}
	urls := []string{}
	for _, key := range slices.Sorted(maps.Keys(v.Config)) {
		urls = append(urls, "/1.0/config/"+key)
	}
	return sendJSON(w, urls)
}

func (s *Server) key(w http.ResponseWriter, r *http.Request, d *door) error {
	key := r.PathValue("key")
	if !instances.ForGuest(key) {
		return errs.Newf(errs.Denied, "not authorized: a guest reads keys that begin with user. or cloud-init.")
	}
	v, err := s.view(r, d)
	if err != nil {
		return err
	}
	value, ok := v.Config[key]
	if !ok {
		return errs.NotFoundf("not found")
	}
	return sendText(w, value)
}

func (s *Server) devices(w http.ResponseWriter, r *http.Request, d *door) error {
	v, err := s.view(r, d)
	if err != nil {
		return err
	}
	return sendJSON(w, v.Devices)
}

// metaData is what cloud-init knows a new instance by, and what users add to
// it.
func (s *Server) metaData(w http.ResponseWriter, r *http.Request, d *door) error {
	v, err := s.view(r, d)
	if err != nil {
		return err
	}
	return sendText(w, fmt.Sprintf("#cloud-config\ninstance-id: %s\nlocal-hostname: %s\n%s", v.CloudInitID, project.InstanceName(d.name), v.Config["user.meta-data"]))
}

// image sends an image of the host that is public, or cached, to an instance
// that may have them.
func (s *Server) image(w http.ResponseWriter, r *http.Request, d *door) error {
	v, err := s.view(r, d)
	if err != nil {
		return err
	}
	if !v.Images {
		return errs.Newf(errs.Denied, "not authorized: the instance's security.guestapi.images is not true")
	}
	fingerprint := r.PathValue("fingerprint")
	if !project.IsName(fingerprint) { // It would be one of another project.
		return errs.NotFoundf("not found")
	}
	key := project.Key(v.ImagesOf, fingerprint)
	image, err := s.Images.Get(r.Context(), key)
	if err != nil && !errs.Is(err, errs.NotFound) && !errs.Is(err, errs.Invalid) {
		return err
	}
	// The beginning of a fingerprint is not enough: nothing is to be guessed.
	if err != nil || image.Fingerprint != fingerprint || !image.Public && !image.Cached {
		return errs.NotFoundf("not found")
	}
	files, err := s.Images.Export(r.Context(), key)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			f.Data.Close()
		}
	}()
	to, err := long(w)
	if err != nil {
		return err
	}
	if err := send(to, files); err != nil {
		// An answer that ends too early would look whole.
		panic(http.ErrAbortHandler)
	}
	return nil
}

// send sends the files of an image: one, or each as a part of the answer.
func send(w http.ResponseWriter, files []images.File) (err error) {
	if len(files) == 1 {
		st, err := files[0].Data.Stat()
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Length", fmt.Sprint(st.Size()))
		w.Header().Set("Content-Disposition", fmt.Sprintf("inline;filename=%q", files[0].Name))
		_, err = io.Copy(w, files[0].Data)
		return err
	}
	mw := multipart.NewWriter(w)
	w.Header().Set("Content-Type", mw.FormDataContentType())
	for _, f := range files {
		part, err := mw.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf("form-data; name=%q; filename=%q", f.Part, f.Name)},
			"Content-Type":        {"application/octet-stream"},
		})
		if err == nil {
			_, err = io.Copy(part, f.Data)
		}
		if err != nil {
			return err
		}
	}
	return mw.Close()
}

// eventTypes are the types of events that guests are told of.
var eventTypes = []string{"config", "device"}

func wantedTypes(r *http.Request) ([]string, error) {
	text := strings.Trim(r.URL.Query().Get("type"), ",")
	if text == "" {
		return eventTypes, nil
	}
	types := strings.Split(text, ",")
	for _, typ := range types {
		if !slices.Contains(eventTypes, typ) {
			return nil, errs.Invalidf("type is %q: want one of %s", typ, strings.Join(eventTypes, ", "))
		}
	}
	return types, nil
}
