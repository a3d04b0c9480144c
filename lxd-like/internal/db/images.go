package db

import "time"

// Image is a row of the images table.
type Image struct {
	ID           int64
	Fingerprint  string
	Filename     string
	Size         int64 // Bytes.
	Public       bool
	AutoUpdate   bool
	Cached       bool
	Architecture string
	Properties   map[string]string
	Profiles     []string
	Source       string // What it was built from; empty if it was not.
	Status       Status
	Created      time.Time
	Expires      time.Time
	Uploaded     time.Time
	LastUsed     time.Time
}
