package api

// ProjectPut is the writable part of a project.
type ProjectPut struct {
	Config      ConfigMap `json:"config"`
	Description string    `json:"description"`
}

// ProjectsPost creates a project.
type ProjectsPost struct {
	ProjectPut

	Name string `json:"name"`
}

// ProjectPost renames a project.
type ProjectPost struct {
	Name string `json:"name"`
}

// Project is a set of instances, and of what else it has for itself.
type Project struct {
	ProjectPut

	Name   string   `json:"name"`
	UsedBy []string `json:"used_by" key:"url"` // URLs.
}

// ProjectState is how much a project uses of what it may use: instances,
// containers, virtual-machines, cpu, memory, processes, disk, networks, and
// disk.NAME for a pool.
type ProjectState struct {
	Resources map[string]ProjectStateResource `json:"resources"`
}

// ProjectStateResource is one of them. Its keys are capitalized on the wire.
type ProjectStateResource struct {
	Limit int64 // -1 for none.
	Usage int64
}
