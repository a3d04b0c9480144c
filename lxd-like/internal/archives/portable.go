package archives

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cuib/cuib/lxd-like/internal/scope"
	"github.com/cuib/cuib/shared/api"
)

// keyIDs says, in the peers' form, which ids the files of an instance are
// stored with. An empty list is those that they have inside.
const keyIDs = "volatile.last_state.idmap"

// portableKeys are what daemons remember of instances that all of them know.
var portableKeys = []string{
	"volatile.apply_template", "volatile.base_image", "volatile.cloud-init.instance-id", "volatile.uuid",
}

// portable makes a document one that all daemons take, LXD 5.0 too, which
// refuses keys that it does not know: what this daemon remembers of the
// instance on this host is left out, and all has the names of its project.
func portable(doc api.Document) api.Document {
	if doc.Instance != nil {
		in := *doc.Instance
		in.Config, in.ExpandedConfig = portableConfig(in.Config), portableConfig(in.ExpandedConfig)
		in.Status, in.StatusCode = "Stopped", api.Stopped
		doc.Instance = &in
	}
	doc.Snapshots = slices.Clone(doc.Snapshots)
	for i := range doc.Snapshots {
		s := &doc.Snapshots[i]
		s.Config, s.ExpandedConfig = portableConfig(s.Config), portableConfig(s.ExpandedConfig)
	}
	doc.VolumeSnapshots = slices.Clone(doc.VolumeSnapshots)
	for i := range doc.VolumeSnapshots {
		if s := &doc.VolumeSnapshots[i]; s.ExpiresAt == nil {
			s.ExpiresAt = &time.Time{} // The peers' daemons end where there is none.
		}
	}
	if doc.Volume != nil {
		doc.Volume = new(*doc.Volume)
	}
	doc.Profiles = slices.Clone(doc.Profiles)
	scope.Out(&doc)
	return doc
}

// Text is the document of a backup with the given snapshots as archives have
// it.
func Text(doc api.Document, snapshots []string) ([]byte, error) {
	return portable(prune(doc, snapshots)).YAML()
}

func portableConfig(config api.ConfigMap) api.ConfigMap {
	out := maps.Clone(config)
	maps.DeleteFunc(out, func(key, _ string) bool {
		return strings.HasPrefix(key, "volatile.") && !slices.Contains(portableKeys, key) && !strings.HasSuffix(key, ".hwaddr")
	})
	if out == nil {
		out = api.ConfigMap{}
	}
	out[keyIDs] = "[]"
	return out
}
