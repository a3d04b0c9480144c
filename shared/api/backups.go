package api

// BackupPost renames a backup of an instance or of a volume.
type BackupPost struct {
	Name string `json:"name"`
}
