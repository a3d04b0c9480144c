package acls

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/networks/nft"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

// logMost is how large the log of an ACL becomes. Then it is kept once, and
// begins anew.
const logMost = 1 << 20

// logs are the files with what ACLs have logged.
type logs struct {
	mu sync.Mutex // Held by what writes, renames and removes them.
}

// logFiles are the older and the newer part of the log of an ACL.
func logFiles(dir, name string) (older, newer string) {
	newer = filepath.Join(dir, "acls", name+".log")
	return newer + ".1", newer
}

// Log returns the log of an ACL: a JSON object a line.
func (s *Service) Log(ctx context.Context, name string) (io.ReadCloser, error) {
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		_, err := db.GetNetworkObject(ctx, tx, kind, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	older, newer := logFiles(s.Dir, name)
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	out := &parts{}
	for _, path := range []string{older, newer} {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, out.Close())
		}
		out.files = append(out.files, f)
	}
	return out, nil
}

// parts are files that are read one after the other.
type parts struct{ files []*os.File }

func (p *parts) Read(b []byte) (int, error) {
	for len(p.files) > 0 {
		n, err := p.files[0].Read(b)
		if n > 0 || err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		if err := p.files[0].Close(); err != nil {
			return 0, err
		}
		p.files = p.files[1:]
	}
	return 0, io.EOF
}

func (p *parts) Close() error {
	var failed []error
	for _, f := range p.files {
		failed = append(failed, f.Close())
	}
	p.files = nil
	return errors.Join(failed...)
}

func (l *logs) rename(dir, name, to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	older, newer := logFiles(dir, name)
	olderTo, newerTo := logFiles(dir, to)
	_, _ = os.Rename(older, olderTo), os.Rename(newer, newerTo) // There are none before something is logged.
}

func (l *logs) remove(dir, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	older, newer := logFiles(dir, name)
	_, _ = os.Remove(older), os.Remove(newer) // As above.
}

// append writes an entry.
func (l *logs) append(dir, name string, e api.NetworkACLLogEntry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	older, newer := logFiles(dir, name)
	if err := os.MkdirAll(filepath.Dir(newer), 0o700); err != nil {
		return err
	}
	if st, err := os.Stat(newer); err == nil && st.Size() >= logMost {
		if err := os.Rename(newer, older); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(newer, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// keepLogs writes what the kernel logs, until ctx ends.
func (s *Service) keepLogs(ctx context.Context) {
	for ctx.Err() == nil {
		err := nft.ReadLog(ctx, s.logGroup(), func(e nft.Logged) {
			entry := api.NetworkACLLogEntry{
				Time: time.Now().UTC().Format(time.RFC3339Nano), Proto: e.Protocol, Src: e.Source, Dst: e.Destination,
				SrcPort: e.SourcePort, DstPort: e.DestinationPort, ICMPType: e.ICMPType, ICMPCode: e.ICMPCode,
				Action: e.Action, Direction: e.Direction, Rule: e.Rule, Network: e.Network,
			}
			if err := s.logged(ctx, e.ACL, entry); err != nil {
				s.Logger.ErrorContext(ctx, "cannot write the log of a network ACL", "acl", e.ACL, "err", err)
			}
		})
		if err == nil || ctx.Err() != nil {
			return
		}
		s.Logger.ErrorContext(ctx, "what network ACLs log is not written", "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

// logged tells of an entry, and writes it into the log of an ACL that is still
// there: packets can be told of later than it is deleted. The kernel calls ACLs
// and networks otherwise than we do.
func (s *Service) logged(ctx context.Context, name string, e api.NetworkACLLogEntry) error {
	var of string
	err := s.DB.View(ctx, func(ctx context.Context, tx *db.Tx) error {
		all, err := db.NetworkObjects(ctx, tx, kind)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(r record) bool { return nft.LogName(r.Name) == name })
		if i < 0 {
			return errs.NotFoundf("network ACL %q not found", name)
		}
		on, err := db.Networks(ctx, tx)
		of, e.Network = all[i].Name, networkAt(on, e.Network)
		return err
	})
	if err != nil {
		return err
	}
	s.Events.Publish(project.Of(of), "network-acl", e)
	e.Network = project.Name(e.Network)
	return s.logs.append(s.Dir, of, e)
}

// networkAt is the network that has a link.
func networkAt(networks []db.Network, link string) string {
	i := slices.IndexFunc(networks, func(n db.Network) bool { return project.Link(n.Name) == link })
	if i < 0 {
		return link
	}
	return networks[i].Name
}

func sortCounts(all []api.NetworkACLCount) {
	slices.SortFunc(all, func(a, b api.NetworkACLCount) int {
		return cmp.Or(-cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Where, b.Where))
	})
}
