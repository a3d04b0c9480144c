package projects

import (
	"net/url"

	"github.com/cuib/cuib/lxd-like/internal/db"
)

// URL is the path of a project.
func URL(name string) string { return "/1.0/projects/" + url.PathEscape(name) }

// ObjectURL is the path of what a project has.
func ObjectURL(o db.ProjectObject) string {
	key := url.PathEscape(o.Key)
	switch o.Kind {
	case db.OfVolumes:
		return "/1.0/storage-pools/" + url.PathEscape(o.Pool) + "/volumes/custom/" + key
	case db.OfACLs:
		return "/1.0/network-acls/" + key
	case db.OfSets:
		return "/1.0/network-address-sets/" + key
	case db.OfZones:
		return "/1.0/network-zones/" + key
	}
	return "/1.0/" + o.Kind + "/" + key
}
