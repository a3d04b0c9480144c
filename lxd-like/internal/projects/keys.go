package projects

import (
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/cuib/cuib/lxd-like/internal/db"
	"github.com/cuib/cuib/shared/errs"
)

const (
	featureImages   = "features.images"
	featureNetworks = "features.networks"
	featureZones    = "features.networks.zones"
	featureProfiles = "features.profiles"
	featureBuckets  = "features.storage.buckets"
	featureVolumes  = "features.storage.volumes"
)

// features are what a project can have of its own, with what a new one has.
var features = map[string]string{
	featureImages: "true", featureNetworks: "false", featureZones: "false",
	featureProfiles: "true", featureBuckets: "true", featureVolumes: "true",
}

// withFeatures is a configuration in which all features are.
func withFeatures(config map[string]string) map[string]string {
	out := maps.Clone(features)
	for key, value := range config {
		if value != "" {
			out[key] = value
		}
	}
	return out
}

func validate(config map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(config)) {
		value := config[key]
		switch {
		case strings.HasPrefix(key, "user.") && len(key) > len("user."):
		case features[key] == "":
			return errs.Invalidf("project configuration has no key %q", key)
		case value != "true" && value != "false":
			return errs.Invalidf("%s: got %q, want true or false", key, value)
		}
	}
	return nil
}

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
