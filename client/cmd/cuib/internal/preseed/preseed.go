// Package preseed describes a whole configuration of the daemon, and puts it
// in place.
package preseed

import (
	"github.com/cuib/cuib/client/cmd/cuib/internal/output"
	"github.com/cuib/cuib/shared/api"
	"github.com/cuib/cuib/shared/errs"
)

// A Document is a configuration. What is in a project says which one; the
// default one if it says none.
type Document struct {
	Config         api.ConfigMap          `json:"config"`
	Networks       []Network              `json:"networks"`
	StoragePools   []api.StoragePoolsPost `json:"storage_pools"`
	StorageVolumes []Volume               `json:"storage_volumes,omitempty"`
	Profiles       []Profile              `json:"profiles"`
	Projects       []api.ProjectsPost     `json:"projects,omitempty"`
}

// A Network is a network of a project.
type Network struct {
	api.NetworksPost

	Project string `json:"project,omitempty"`
}

// A Profile is a profile of a project.
type Profile struct {
	api.ProfilesPost

	Project string `json:"project,omitempty"`
}

// A Volume is a custom volume of a project. Source is used only for one that
// is not there yet.
type Volume struct {
	api.StorageVolumePut

	Name        string                   `json:"name"`
	Type        string                   `json:"type,omitempty"`
	ContentType string                   `json:"content_type,omitempty"`
	Source      *api.StorageVolumeSource `json:"source,omitempty"`
	Pool        string                   `json:"pool"`
	Project     string                   `json:"project,omitempty"`
}

// fromPeers is what documents for other programs of the kind have besides.
type fromPeers struct {
	Document

	Certificates []map[string]any `json:"certificates"`
	Cluster      map[string]any   `json:"cluster"`
}

// custom is the type of the volumes that users make.
const custom = "custom"

// Parse parses a document, which is YAML.
func Parse(data []byte) (Document, error) {
	var d fromPeers
	if err := output.ParseYAMLPart[fromPeers](data, &d.Document); err != nil {
		return Document{}, err
	}
	if err := output.ParseYAML(data, &d); err != nil { // Now with what is refused below.
		return Document{}, err
	}
	switch {
	case len(d.Certificates) > 0:
		return Document{}, errs.Invalidf("certificates: want none: the API is on no network, only on the unix socket")
	case len(d.Cluster) > 0:
		return Document{}, errs.Invalidf("cluster: want none: a host works alone, without a cluster")
	}
	for _, v := range d.StorageVolumes {
		if v.Type != "" && v.Type != custom {
			return Document{}, errs.Invalidf("storage volume %q: type is %q, want custom", v.Name, v.Type)
		}
	}
	return d.Document, nil
}
