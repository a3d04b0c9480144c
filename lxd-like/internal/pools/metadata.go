package pools

import (
	"maps"
	"slices"
	"strings"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/storage"
)

// Metadata describes the keys of pools and of their volumes, by driver, in the
// form of [profiles.Metadata].
func (s *Service) Metadata() map[string]map[string]profiles.DocGroup {
	out := map[string]map[string]profiles.DocGroup{}
	for driver, typ := range s.Types {
		out["storage-"+driver] = map[string]profiles.DocGroup{
			"pool-conf":   group(poolDocs(typ)),
			"volume-conf": group(typ.VolumeOptions),
		}
	}
	return out
}

// poolDocs returns the keys that users set on pools of a driver, with a
// sentence each.
func poolDocs(typ storage.Type) map[string]string {
	docs := map[string]string{"user.*": "What you like."}
	for key, common := range commonKeys {
		docs[key] = common.doc
	}
	maps.Copy(docs, typ.Options)
	if _, ok := typ.Options[keyWipe]; !ok {
		delete(docs, keyWipe)
	}
	maps.DeleteFunc(docs, func(key, _ string) bool { return strings.HasPrefix(key, "volatile.") })
	for _, k := range profiles.VolumeKeys() {
		if !strings.HasPrefix(k.Name, "volatile.") {
			docs[volumePrefix+k.Name] = "The default of new volumes: " + k.Doc
		}
	}
	for key, doc := range typ.VolumeOptions {
		docs[volumePrefix+key] = "The default of new volumes: " + doc
	}
	return docs
}

func group(docs map[string]string) profiles.DocGroup {
	g := profiles.DocGroup{Keys: []map[string]profiles.Doc{}}
	for _, key := range slices.Sorted(maps.Keys(docs)) {
		g.Keys = append(g.Keys, map[string]profiles.Doc{key: {Type: "string", Short: docs[key]}})
	}
	return g
}
