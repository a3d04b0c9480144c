package rest

// Routes returns the methods and patterns of all routes.
func Routes() (out [][2]string) {
	for _, rt := range (&Server{}).routes() {
		out = append(out, [2]string{rt.method, rt.pattern})
	}
	return out
}
