package api

import (
	"encoding/json"
	"fmt"
	"regexp"
	"time"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// InstanceBackupsPost creates a backup, an archive of an instance.
type InstanceBackupsPost struct {
	Name                 string    `json:"name"`
	ExpiresAt            time.Time `json:"expires_at"`
	InstanceOnly         bool      `json:"instance_only"`
	ContainerOnly        bool      `json:"container_only,omitempty"` // The older name of InstanceOnly.
	OptimizedStorage     bool      `json:"optimized_storage"`
	RootOnly             bool      `json:"root_only"`
	CompressionAlgorithm string    `json:"compression_algorithm"`
}

// InstanceBackup is a backup of an instance.
type InstanceBackup struct {
	Name             string    `json:"name"`
	CreatedAt        time.Time `json:"created_at"`
	ExpiresAt        time.Time `json:"expires_at"`
	InstanceOnly     bool      `json:"instance_only"`
	ContainerOnly    bool      `json:"container_only"`
	OptimizedStorage bool      `json:"optimized_storage"`
}

// StorageVolumeBackupsPost creates a backup, an archive of a volume.
type StorageVolumeBackupsPost struct {
	Name                 string    `json:"name"`
	ExpiresAt            time.Time `json:"expires_at"`
	VolumeOnly           bool      `json:"volume_only"`
	OptimizedStorage     bool      `json:"optimized_storage"`
	CompressionAlgorithm string    `json:"compression_algorithm"`
}

// StorageVolumeBackup is a backup of a volume.
type StorageVolumeBackup struct {
	Name             string    `json:"name"`
	CreatedAt        time.Time `json:"created_at"`
	ExpiresAt        time.Time `json:"expires_at"`
	VolumeOnly       bool      `json:"volume_only"`
	OptimizedStorage bool      `json:"optimized_storage"`
}

// A Document is all that is needed, besides files, to make an instance or a
// volume again. It is what the peers keep as backup.yaml: archives hold it,
// backups in repositories, and the pools themselves.
type Document struct {
	Instance        *Instance               `json:"container,omitempty"` // Of an instance.
	Snapshots       []InstanceSnapshot      `json:"snapshots,omitempty"`
	Pool            *StoragePool            `json:"pool,omitempty"`
	Profiles        []Profile               `json:"profiles,omitempty"` // Those of the instance.
	Volume          *StorageVolume          `json:"volume,omitempty"`   // Of a custom volume, or the instance's root.
	VolumeSnapshots []StorageVolumeSnapshot `json:"volume_snapshots,omitempty"`
}

// YAML returns the document as text.
func (d Document) YAML() ([]byte, error) { return MarshalYAML(d) }

// unprintable are the signs that JSON has in strings as they are, and YAML does
// not, or takes for the end of a line.
var unprintable = regexp.MustCompile("[\x7f-\u009f\ufeff\ufffe\uffff]")

// MarshalYAML returns a value as YAML, with the names that it has in JSON.
func MarshalYAML(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	data = unprintable.ReplaceAllFunc(data, func(c []byte) []byte {
		r, _ := utf8.DecodeRune(c)
		return fmt.Appendf(nil, `\u%04x`, r)
	})
	var plain any
	if err := yaml.Unmarshal(data, &plain); err != nil { // JSON is YAML.
		return nil, err
	}
	return yaml.Marshal(plain)
}

// UnmarshalYAML is the inverse of [MarshalYAML]. Keys that v does not know are
// left out.
func UnmarshalYAML(text []byte, v any) error {
	var plain any
	if err := yaml.Unmarshal(text, &plain); err != nil {
		return err
	}
	data, err := json.Marshal(plain)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// ParseDocument reads a document. It takes what newer and older peers write:
// the instance below "instance" or "container", and keys that it does not know.
func ParseDocument(text []byte) (Document, error) {
	var plain map[string]any
	if err := yaml.Unmarshal(text, &plain); err != nil {
		return Document{}, err
	}
	if plain["container"] == nil && plain["instance"] != nil {
		plain["container"] = plain["instance"]
	}
	data, err := json.Marshal(plain)
	if err != nil {
		return Document{}, err
	}
	var d Document
	return d, json.Unmarshal(data, &d)
}

// BackupRepositoryPut is the writable part of a repository.
type BackupRepositoryPut struct {
	Config      ConfigMap `json:"config"`
	Description string    `json:"description"`
}

// BackupRepositoriesPost creates a repository, or takes up one that is there.
type BackupRepositoriesPost struct {
	BackupRepositoryPut

	Name     string `json:"name"`
	Existing bool   `json:"existing"` // No new one is made.
}

// BackupRepository is where incremental backups are kept. It is of the
// extension cuib_backup_repositories, as what follows.
type BackupRepository struct {
	BackupRepositoryPut

	Name   string `json:"name"`
	Status string `json:"status"` // Available or Unavailable
}

// BackupRepositoryMade is the answer to the creation of a repository.
type BackupRepositoryMade struct {
	Password string `json:"password,omitempty"` // If the server made it up. It is said nowhere else.
}

// RepositoryBackup is one backup in a repository.
type RepositoryBackup struct {
	ID        string    `json:"id"`
	Source    string    `json:"source" key:"source"`   // instances/NAME, volumes/POOL/NAME or host
	Project   string    `json:"project" key:"project"` // Of the source.
	CreatedAt time.Time `json:"created_at"`
	Host      string    `json:"host"`
	Size      int64     `json:"size"`  // Bytes of its files; -1 if it is not known.
	Added     int64     `json:"added"` // Bytes that it added to the repository; -1 if it is not known.
}

// RepositoryBackupsPost makes backups. Without sources it is all instances
// and custom volumes, and what the host has beside them.
type RepositoryBackupsPost struct {
	Sources []string `json:"sources" key:"source"`

	// Checksum has all files be read, also those that have the size and time
	// that they had for the backup before.
	Checksum bool `json:"checksum,omitempty"`
}

// RepositoryRestorePost makes an instance or a volume of a backup, or with
// All all that the repository has of this host and is not there.
type RepositoryRestorePost struct {
	ID   string `json:"id"`                // Or "latest", with Source.
	From string `json:"from" key:"source"` // The source whose latest backup is meant.
	Name string `json:"name"`              // Another name for what is made.
	Pool string `json:"pool"`              // Another pool.
	Host string `json:"host"`              // With All or From: whose backups; this host's if it is empty.
	All  bool   `json:"all"`
}

// RepositoryFile is a file in a backup.
type RepositoryFile struct {
	Name       string    `json:"name"`
	Type       string    `json:"type"` // file, directory, symlink, dev, chardev or fifo
	Size       int64     `json:"size"`
	Mode       int       `json:"mode"`
	UID        int64     `json:"uid"`
	GID        int64     `json:"gid"`
	ModifiedAt time.Time `json:"modified_at"`
}

// RepositoryVerifyPost checks a repository.
type RepositoryVerifyPost struct {
	// ReadData is how much of the data is read too, beside what says where it
	// is: all, a percentage such as "5%", a part such as "1/7", or a size such
	// as "10G"; nothing if it is empty.
	ReadData string `json:"read_data"`
}

// HostDocument is what a host has beside instances and volumes. It is the
// document of its backups, and has the daemon's own names for what is in
// projects: see package project.
type HostDocument struct {
	NetworksDocument

	Dir      string              `json:"dir"` // The daemon's state directory.
	Config   ConfigMap           `json:"config"`
	Pools    []StoragePool       `json:"pools"`
	Projects []Project           `json:"projects,omitempty"`
	Profiles []Profile           `json:"profiles"`
	Aliases  []ImageAliasesEntry `json:"image_aliases"`
}
