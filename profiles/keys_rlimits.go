package profiles

func rlimitKeys() []Key {
	const what = "The limit of the instance's processes on "
	var all []Key
	for _, l := range [][2]string{
		{"as", "the size of their address space, in bytes"},
		{"core", "the size of their core dumps, in bytes"},
		{"cpu", "the processor time of each, in seconds"},
		{"data", "the size of their data segment, in bytes"},
		{"fsize", "the size of files that they write, in bytes"},
		{"locks", "the number of file locks"},
		{"memlock", "the memory that they lock, in bytes"},
		{"nice", "how far they raise their priority"},
		{"nofile", "the number of their open files"},
		{"nproc", "the number of processes of each user"},
		{"rtprio", "their real-time priority"},
		{"sigpending", "the number of signals that wait for them"},
	} {
		all = append(all, Key{
			Name: "limits.kernel." + l[0], Type: String, Allowed: wantRlimit, Live: true,
			Doc: what + l[1] + "; a change reaches those that run too, unless they have set a lower one themselves.", check: checkRlimit,
		})
	}
	return all
}
