package zfs

import (
	"encoding/hex"
	"strings"

	"github.com/cuib/cuib/shared/project"
	"github.com/cuib/cuib/storage"
	"github.com/cuib/cuib/storage/internal/layout"
)

// Where what is in a pool's dataset. Administrators know most of it from
// other managers of containers.
//
//	containers/NAME               an instance
//	images/FINGERPRINT            an image
//	custom/PROJECT_NAME           a custom volume
//	.../NAME@snapshot-SNAP        a snapshot
//	.../NAME/.history-ID          what holds snapshots that are not of the volume's own past
//	delegated/ID                  what an instance's guest may have datasets in
//	deleted/containers/NAME-ID    what is removed when nothing depends on it any more
//	staging/ID                    what is being made
const (
	deletedDir   = "deleted"
	delegatedDir = "delegated"
	stagingDir   = "staging"

	snapPrefix    = "snapshot-" // Of a user's snapshots.
	copyPrefix    = "copy-"     // Of those that a clone or a stream is made of.
	gonePrefix    = "deleted-"  // Of those that were deleted and have clones.
	imageSnap     = "readonly"  // That which an image is cloned from.
	historyPrefix = ".history-" // Of datasets below a volume's
	customSign    = "_"         // Between a custom volume's project and its name.
	oldSuffix     = "-old"      // Of what is being replaced by staging/ID.
)

// dirs are where the kinds of volumes are.
var dirs = map[storage.Kind]string{
	storage.Instance: "containers",
	storage.Image:    "images",
	storage.Custom:   "custom",
}

// dataset returns the name of the dataset of a volume, also of a snapshot's.
func (p place) dataset(v storage.Volume) string { return p.in(relative(v)) }

// in returns the name of what is in the pool's dataset.
func (p place) in(name string) string { return p.root + "/" + name }

// relative is dataset without that of the pool.
func relative(v storage.Volume) string {
	name := escape(v.Name)
	if v.Kind == storage.Custom {
		name = customName(v.Name)
	}
	dir := dirs[v.Kind]
	if dir == "" {
		dir = escape(string(v.Kind))
	}
	return dir + "/" + name
}

// customName returns PROJECT_NAME, as other managers of containers have it.
func customName(key string) string {
	in, name := project.Split(key)
	if in == project.Default || project.CheckName(in) != nil {
		in, name = project.Default, key
	}
	return in + customSign + escape(name)
}

// name returns the name of the dataset of a volume, or of the snapshot in it.
func (p place) name(v storage.Volume) string {
	if v.Snapshot == "" {
		return p.dataset(v)
	}
	return p.dataset(v) + "@" + snapName(v.Snapshot)
}

func snapName(name string) string { return snapPrefix + escape(name) }

// volume returns the volume or snapshot that a dataset or a snapshot of one
// is. There is none for what users do not see.
func (p place) volume(name string) (v storage.Volume, ok bool) {
	rel, ok := strings.CutPrefix(name, p.root+"/")
	if !ok {
		return v, false
	}
	rel, snap, isSnap := strings.Cut(rel, "@")
	parts := strings.Split(rel, "/")
	history := len(parts) == 3 && strings.HasPrefix(parts[2], historyPrefix)
	if len(parts) != 2 && (!history || !isSnap) {
		return v, false
	}
	for kind, dir := range dirs {
		if dir == parts[0] {
			v.Kind = kind
		}
	}
	if v.Kind == "" {
		return v, false
	}
	v.Name = unescape(parts[1])
	if v.Kind == storage.Custom {
		in, base, ok := strings.Cut(parts[1], customSign)
		if !ok || project.CheckName(in) != nil {
			return v, false
		}
		v.Name = project.Key(in, unescape(base))
	}
	if isSnap {
		if snap, ok = strings.CutPrefix(snap, snapPrefix); !ok {
			return v, false
		}
		v.Snapshot = unescape(snap)
	}
	return v, true
}

// escape returns a name as ZFS allows it: of letters, digits and "-_.:", and
// not beginning with a dot.
func escape(name string) string { return layout.Escape(name, ':') }

// unescape undoes escape.
func unescape(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == ':' && i+2 < len(name) {
			if c, err := hex.DecodeString(name[i+1 : i+3]); err == nil {
				b.Write(c)
				i += 2
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}

// cut returns the dataset and the name of a snapshot.
func cut(name string) (dataset, snap string) {
	dataset, snap, _ = strings.Cut(name, "@")
	return dataset, snap
}

func newID() string { return layout.NewID() }
