package profiles

func miscKeys() []Key {
	return []Key{
		{Name: "environment.*", Type: String, Allowed: "text of one line", Live: true, Doc: "An environment variable of init, from the next start on, and of every program that is executed, at once.", check: is(oneLine)},
		{Name: "linux.sysctl.*", Type: String, Allowed: "text of one line", Doc: "A sysctl of the instance's own namespaces, such as linux.sysctl.net.ipv4.ip_forward.", check: is(oneLine)},
		{Name: "user.*", Type: String, Live: true, Doc: "Anything that users want to keep with the instance."},
	}
}
