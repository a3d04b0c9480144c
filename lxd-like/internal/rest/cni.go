package rest

import (
	"net/http"
	"path/filepath"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

// The server's keys for network plugins.
const (
	KeyCNIConfigDir  = "cni.config_dir"
	KeyCNIPluginDirs = "cni.plugin_dirs"
)

func checkCNIConfigDir(value string) error {
	if value != "" && !isDir(value) {
		return errs.Invalidf("%s: got %q, want an absolute path", KeyCNIConfigDir, value)
	}
	return nil
}

func checkCNIPluginDirs(value string) error {
	for dir := range strings.SplitSeq(value, ":") {
		if value != "" && !isDir(dir) {
			return errs.Invalidf("%s: got %q, want absolute paths with colons between them", KeyCNIPluginDirs, value)
		}
	}
	return nil
}

func isDir(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && !strings.ContainsAny(path, "\n\x00")
}

// examineInstance asks network plugins whether all is as they have made it:
// extension cuib_nic_cni.
func (s *Server) examineInstance(r *http.Request) (response, error) {
	return got(s.Instances.Examine(r.Context(), r.PathValue("name")))
}
