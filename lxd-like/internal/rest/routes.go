package rest

import "net/http"

// A handle answers a request.
type handle func(*http.Request) (response, error)

// A route is one thing that the API offers.
type route struct {
	method  string
	pattern string // Of http.ServeMux, without the method.
	handle  handle
}

const (
	get    = http.MethodGet
	head   = http.MethodHead
	put    = http.MethodPut
	post   = http.MethodPost
	patch  = http.MethodPatch
	remove = http.MethodDelete
)

// routes is the one list of what the API offers.
func (s *Server) routes() []route {
	out := []route{
		{get, "/{$}", s.listVersions},
		{get, "/1.0", s.getServer},
		{put, "/1.0", s.putServer},
		{patch, "/1.0", s.patchServer},
		{get, "/1.0/cluster", s.getCluster},
		{get, "/1.0/events", s.listenEvents},
		{get, "/1.0/metadata/configuration", s.getConfiguration},
		{get, "/1.0/operations", s.listOperations},
		{get, "/1.0/operations/{id}", s.getOperation},
		{remove, "/1.0/operations/{id}", s.cancelOperation},
		{get, "/1.0/operations/{id}/wait", s.waitOperation},
		{get, "/1.0/operations/{id}/websocket", s.connectOperation},
		{get, "/1.0/resources", s.getResources},
		{get, "/internal/ready", s.getReady},
		{post, "/internal/recover/import", s.importLost},
		{post, "/internal/recover/validate", s.findLost},
		{put, "/internal/shutdown", s.putShutdown},
	}
	out = append(out, s.projectRoutes()...)
	out = append(out, s.instanceRoutes()...)
	out = append(out, s.imageRoutes()...)
	out = append(out, s.volumeRoutes()...)
	out = append(out, s.backupRoutes()...)
	out = append(out, s.repositoryRoutes()...)
	out = append(out, s.warningRoutes()...)
	out = append(out, s.zoneRoutes()...)
	out = append(out, s.aclRoutes()...)
	out = append(out, s.publishRoutes()...)
	out = append(out, s.peeringRoutes()...)
	return append(out, s.hostRoutes()...)
}

func (s *Server) instanceRoutes() []route {
	return []route{
		{get, "/1.0/instances", s.listInstances},
		{post, "/1.0/instances", s.createInstance},
		{put, "/1.0/instances", s.putInstances},
		{get, "/1.0/instances/{name}", s.getInstance},
		{put, "/1.0/instances/{name}", s.putInstance},
		{patch, "/1.0/instances/{name}", s.patchInstance},
		{post, "/1.0/instances/{name}", s.renameInstance},
		{remove, "/1.0/instances/{name}", s.deleteInstance},
		{get, "/1.0/instances/{name}/state", s.getState},
		{put, "/1.0/instances/{name}/state", s.putState},
		{post, "/1.0/instances/{name}/doctor", s.examineInstance},
		{post, "/1.0/instances/{name}/rebuild", s.rebuildInstance},
		{post, "/1.0/instances/{name}/exec", s.execInstance},
		{get, "/1.0/instances/{name}/console", s.getConsoleLog},
		{post, "/1.0/instances/{name}/console", s.attachConsole},
		{remove, "/1.0/instances/{name}/console", s.clearConsoleLog},
		{get, "/1.0/instances/{name}/files", s.getFile(s.instanceFiles)},
		{head, "/1.0/instances/{name}/files", s.getFile(s.instanceFiles)},
		{post, "/1.0/instances/{name}/files", s.postFile(s.instanceFiles)},
		{remove, "/1.0/instances/{name}/files", s.deleteFile(s.instanceFiles)},
		{get, "/1.0/instances/{name}/sftp", s.serveSFTP(s.instanceFiles)},
		{get, "/1.0/instances/{name}/logs", s.listLogs},
		{get, "/1.0/instances/{name}/logs/exec-output", s.listOutputs},
		{get, "/1.0/instances/{name}/logs/{file...}", s.getLog},
		{remove, "/1.0/instances/{name}/logs/{file...}", s.deleteLog},
		{get, "/1.0/instances/{name}/metadata", s.getMetadata},
		{put, "/1.0/instances/{name}/metadata", s.putMetadata},
		{patch, "/1.0/instances/{name}/metadata", s.patchMetadata},
		{get, "/1.0/instances/{name}/metadata/templates", s.getTemplates},
		{post, "/1.0/instances/{name}/metadata/templates", s.postTemplate},
		{remove, "/1.0/instances/{name}/metadata/templates", s.deleteTemplate},
		{get, "/1.0/instances/{name}/diff", s.diffInstance},
		{get, "/1.0/instances/{name}/snapshots", s.listSnapshots},
		{post, "/1.0/instances/{name}/snapshots", s.createSnapshot},
		{remove, "/1.0/instances/{name}/snapshots", s.deleteSnapshots},
		{get, "/1.0/instances/{name}/snapshots/{snapshot}", s.getSnapshot},
		{put, "/1.0/instances/{name}/snapshots/{snapshot}", s.putSnapshot},
		{patch, "/1.0/instances/{name}/snapshots/{snapshot}", s.patchSnapshot},
		{post, "/1.0/instances/{name}/snapshots/{snapshot}", s.renameSnapshot},
		{remove, "/1.0/instances/{name}/snapshots/{snapshot}", s.deleteSnapshot},
	}
}

// imageRoutes has the names of aliases last in their paths, as they can hold
// slashes. What is below a fingerprint has one route, because with routes of
// their own neither "aliases/{name...}" nor "{fingerprint}/export" would be
// more specific than the other.
func (s *Server) imageRoutes() []route {
	return []route{
		{get, "/1.0/images", s.listImages},
		{post, "/1.0/images", s.createImage},
		{get, "/1.0/images/aliases", s.listAliases},
		{post, "/1.0/images/aliases", s.createAlias},
		{get, "/1.0/images/aliases/{name...}", s.getAlias},
		{put, "/1.0/images/aliases/{name...}", s.putAlias},
		{patch, "/1.0/images/aliases/{name...}", s.patchAlias},
		{post, "/1.0/images/aliases/{name...}", s.renameAlias},
		{remove, "/1.0/images/aliases/{name...}", s.deleteAlias},
		{get, "/1.0/images/{fingerprint}", s.getImage},
		{put, "/1.0/images/{fingerprint}", s.putImage},
		{patch, "/1.0/images/{fingerprint}", s.patchImage},
		{remove, "/1.0/images/{fingerprint}", s.deleteImage},
		{get, "/1.0/images/{fingerprint}/{what...}", s.getImagePart},
		{post, "/1.0/images/{fingerprint}/{what...}", s.postImagePart},
	}
}

func (s *Server) hostRoutes() []route {
	return []route{
		{get, "/1.0/profiles", s.listProfiles},
		{post, "/1.0/profiles", s.createProfile},
		{get, "/1.0/profiles/{name}", s.getProfile},
		{put, "/1.0/profiles/{name}", s.putProfile},
		{patch, "/1.0/profiles/{name}", s.patchProfile},
		{post, "/1.0/profiles/{name}", s.renameProfile},
		{remove, "/1.0/profiles/{name}", s.deleteProfile},
		{get, "/1.0/storage-pools", s.listPools},
		{post, "/1.0/storage-pools", s.createPool},
		{get, "/1.0/storage-pools/{name}", s.getPool},
		{put, "/1.0/storage-pools/{name}", s.putPool},
		{patch, "/1.0/storage-pools/{name}", s.patchPool},
		{remove, "/1.0/storage-pools/{name}", s.deletePool},
		{get, "/1.0/storage-pools/{name}/resources", s.getPoolResources},
		{get, "/1.0/network-allocations", s.listAllocations},
		{get, "/1.0/networks", s.listNetworks},
		{post, "/1.0/networks", s.createNetwork},
		{get, "/1.0/networks/{name}", s.getNetwork},
		{put, "/1.0/networks/{name}", s.putNetwork},
		{patch, "/1.0/networks/{name}", s.patchNetwork},
		{post, "/1.0/networks/{name}", s.renameNetwork},
		{remove, "/1.0/networks/{name}", s.deleteNetwork},
		{get, "/1.0/networks/{name}/leases", s.listLeases},
		{post, "/1.0/networks/{name}/doctor", s.examineNetwork},
		{get, "/1.0/networks/{name}/state", s.getNetworkState},
	}
}
