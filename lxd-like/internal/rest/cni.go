package rest

import "net/http"

// examineInstance asks network plugins whether all is as they have made it:
// extension cuib_nic_cni.
func (s *Server) examineInstance(r *http.Request) (response, error) {
	return got(s.Instances.Examine(r.Context(), r.PathValue("name")))
}
