package db

import (
	"time"
)

// Instance is a row of the instances table, with its profiles.
type Instance struct {
	ID           int64
	Name         string
	Status       Status
	PoolID       int64
	Pool         string // The pool's name; read only.
	Architecture string
	Description  string
	Ephemeral    bool
	Stateful     bool
	Config       map[string]string
	Devices      map[string]map[string]string
	Profiles     []string // Names, in order.
	Created      time.Time
	LastUsed     time.Time
}

// Snapshot is a row of the snapshots table.
type Snapshot struct {
	ID           int64
	Instance     string // The instance's name; read only.
	Name         string
	Status       Status
	Architecture string
	Description  string
	Ephemeral    bool
	Stateful     bool
	Config       map[string]string
	Devices      map[string]map[string]string
	Profiles     []string
	Created      time.Time
	LastUsed     time.Time
	Expires      time.Time
}
