package api

import "time"

// StoragePoolPut is the writable part of a storage pool.
type StoragePoolPut struct {
	Config      ConfigMap `json:"config"`
	Description string    `json:"description"`
}

// StoragePoolsPost creates a storage pool.
type StoragePoolsPost struct {
	StoragePoolPut

	Name   string `json:"name"`
	Driver string `json:"driver"`
}

// StoragePool is a storage pool.
type StoragePool struct {
	StoragePoolPut

	Name      string   `json:"name"`
	Driver    string   `json:"driver"`
	UsedBy    []string `json:"used_by" key:"url"`
	Status    string   `json:"status"` // Created, Pending or Unavailable
	Locations []string `json:"locations"`

	StatusMessage string `json:"status_message,omitempty"` // Why it is not available; of the extension cuib_storage_status_message.
}

// ResourcesStoragePool is the room in a pool.
type ResourcesStoragePool struct {
	Space  ResourcesUsage `json:"space"`  // Bytes.
	Inodes ResourcesUsage `json:"inodes"` // 0 where the file system has no limit.
}

// ResourcesUsage is how much there is of something.
type ResourcesUsage struct {
	Used  uint64 `json:"used"`
	Total uint64 `json:"total"`
}

// StorageVolumePut is the writable part of a volume. Restore, if not empty,
// names the snapshot whose contents it gets back.
type StorageVolumePut struct {
	Config      ConfigMap `json:"config"`
	Description string    `json:"description"`
	Restore     string    `json:"restore,omitempty"`
}

// StorageVolume is a volume of a pool.
type StorageVolume struct {
	StorageVolumePut

	Name        string    `json:"name" key:"volume"`
	Type        string    `json:"type"` // container, image or custom
	UsedBy      []string  `json:"used_by" key:"url"`
	Location    string    `json:"location"`
	ContentType string    `json:"content_type"` // filesystem or iso
	Project     string    `json:"project" key:"project"`
	CreatedAt   time.Time `json:"created_at"`
	Pool        string    `json:"pool,omitempty"`
}

// StorageVolumeFull is a volume with all that there is to know of it, for
// recursion=2.
type StorageVolumeFull struct {
	StorageVolume

	Backups   []StorageVolumeBackup   `json:"backups"`
	Snapshots []StorageVolumeSnapshot `json:"snapshots"`
	State     *StorageVolumeState     `json:"state"`
}

// StorageVolumesPost creates a volume.
type StorageVolumesPost struct {
	StorageVolumePut

	Name        string              `json:"name" key:"volume"`
	Type        string              `json:"type"`         // custom
	ContentType string              `json:"content_type"` // filesystem, if it is empty, or iso
	Source      StorageVolumeSource `json:"source"`
}

// StorageVolumeSource says what a volume is made from.
type StorageVolumeSource struct {
	Type                string            `json:"type"`              // none, if it is empty, or copy
	Name                string            `json:"name" key:"volume"` // VOLUME or VOLUME/SNAPSHOT
	Pool                string            `json:"pool"`
	Project             string            `json:"project,omitempty" key:"project"`
	Location            string            `json:"location,omitempty"`
	VolumeOnly          bool              `json:"volume_only"`
	Refresh             bool              `json:"refresh"`
	RefreshExcludeOlder bool              `json:"refresh_exclude_older"`
	Mode                string            `json:"mode,omitempty"`
	Certificate         string            `json:"certificate,omitempty"`
	Operation           string            `json:"operation,omitempty"`
	Websockets          map[string]string `json:"secrets,omitempty"`
}

// StorageVolumePost renames a volume, or moves it to another pool.
type StorageVolumePost struct {
	Name       string `json:"name" key:"volume"`
	Pool       string `json:"pool,omitempty"`
	Project    string `json:"project,omitempty" key:"project"`
	Migration  bool   `json:"migration"`
	VolumeOnly bool   `json:"volume_only"`
}

// StorageVolumeState is what a volume is like now.
type StorageVolumeState struct {
	Usage *StorageVolumeStateUsage `json:"usage"`
}

// StorageVolumeStateUsage is the room that a volume takes, in bytes. Total is
// its limit, 0 for none.
type StorageVolumeStateUsage struct {
	Used  uint64 `json:"used"`
	Total int64  `json:"total"`
}

// StorageVolumeSnapshotPut is the writable part of a snapshot of a volume.
type StorageVolumeSnapshotPut struct {
	Description string     `json:"description"`
	ExpiresAt   *time.Time `json:"expires_at"`
}

// StorageVolumeSnapshot is a snapshot of a volume.
type StorageVolumeSnapshot struct {
	StorageVolumeSnapshotPut

	Name        string    `json:"name"`
	Config      ConfigMap `json:"config"`
	ContentType string    `json:"content_type"`
	CreatedAt   time.Time `json:"created_at"`
}

// StorageVolumeSnapshotsPost creates a snapshot of a volume.
type StorageVolumeSnapshotsPost struct {
	Name        string     `json:"name"`
	Description string     `json:"description"`
	ExpiresAt   *time.Time `json:"expires_at"`

	// Whether it takes the place of one that has its name, which is there until
	// the new one is. It is of the extension cuib_snapshot_replace.
	Replace bool `json:"replace,omitempty"`

	ID string `json:"-"` // By which the daemon knows the snapshot; made up if it is empty.
}

// StorageVolumeSnapshotPost renames a snapshot of a volume.
type StorageVolumeSnapshotPost struct {
	Name string `json:"name"`
}

// FileChange is a file that is not as it was in a snapshot. It is of the
// extension cuib_snapshot_diff.
type FileChange struct {
	Op   string `json:"op"`   // added, modified or removed
	Type string `json:"type"` // file, directory, symlink, device, pipe or socket; empty if it is not known
	Path string `json:"path"` // Within the instance or the volume, with a leading slash.
}
