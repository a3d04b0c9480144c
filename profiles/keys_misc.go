package profiles

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

const (
	prefixEnvironment      = "environment."
	prefixSysctl           = "linux.sysctl."
	prefixCredential       = "systemd.credential."
	prefixBinaryCredential = "systemd.credential-binary."
	keyModules             = "linux.kernel_modules"
	keyModulesLoad         = "linux.kernel_modules.load"
)

func miscKeys() []Key {
	evacuations := []string{"auto", "live-migrate", "migrate", "stop", "stateful-stop", "force-stop"}
	return []Key{
		{Name: "cluster.evacuate", Type: String, Default: "auto", Allowed: "auto, live-migrate, migrate, stop, stateful-stop or force-stop", Live: true, Doc: "Kept for other container managers: what a cluster does with the instance while a member is empty.", Differs: "Without a cluster it changes nothing.", check: oneOf(evacuations...)},
		{Name: prefixEnvironment + "*", Type: String, Allowed: "text of one line, less than 128 KiB", Live: true, Doc: "An environment variable of init, from the next start on, and of every program that is executed, at once.", check: is(variable), checkName: variableName},
		{Name: keyModules, Type: String, Allowed: `names of kernel modules such as "ip_vs, nf_nat"`, Live: true, Doc: "Modules that the host's kernel loads before the instance starts, or at once if it runs.", Differs: "The names are of modules only: paths and options are refused.", check: parses(parseModules)},
		{Name: keyModulesLoad, Type: String, Default: "boot", Allowed: "boot", Live: true, Doc: "When linux.kernel_modules are loaded.", Differs: "There is no ondemand.", check: oneOf("boot")},
		{Name: prefixSysctl + "*", Type: String, Allowed: "text of one line, less than 4 KiB", Doc: "A sysctl of the instance's own namespaces, such as linux.sysctl.net.ipv4.ip_forward.", Differs: "Those of the whole host are refused, which unprivileged instances cannot set in any case.", check: is(sysctlValue), checkName: sysctlName},
		{Name: prefixCredential + "*", Type: Blob, Allowed: "text, at most 512 KiB", Doc: "A credential of that name for the instance's systemd, see systemd-creds(1).", checkName: credentialName},
		{Name: prefixBinaryCredential + "*", Type: String, Allowed: "base64, at most 512 KiB", Doc: "A credential of that name for the instance's systemd, which can be any bytes.", check: is(isBase64), checkName: credentialName},
		{Name: KeyAliases, Type: String, Allowed: `names of letters, digits and '-' such as "db, cache"`, Live: true, Doc: "Other names of the instance on its networks. Nobody else has them for a name.", check: parses(ParseAliases)},
		{Name: "user.*", Type: String, Live: true, Doc: "Anything that users want to keep with the instance."},
	}
}

// variable reports whether v can be the value of an environment variable. The
// kernel takes 128 KiB for one, with its name.
func variable(v string) bool { return oneLine(v) && len(v) <= 128<<10-maxName-2 }

func variableName(name string) error {
	if strings.Contains(name, "=") {
		return errs.Invalidf(`a variable's name has no "="`)
	}
	return nil
}

func sysctlValue(v string) bool { return oneLine(v) && len(v) < 4096 }

// ownSysctls are the sysctls that namespaces have of their own; those that end
// with a dot with all below them.
var ownSysctls = []string{
	"fs.mqueue.", "kernel.domainname", "kernel.msg", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.msg_next_id",
	"kernel.auto_msgmni", "kernel.sem", "kernel.sem_next_id", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
	"kernel.shm_next_id", "kernel.shm_rmid_forced", "net.", "user.",
}

func sysctlName(name string) error {
	if !only(name, letters+digits+"._-/") || strings.Contains(name, "..") || strings.HasPrefix(name, ".") {
		return errs.Invalidf("a sysctl's name is as in linux.sysctl.net.ipv4.ip_forward")
	}
	dotted := strings.ReplaceAll(name, "/", ".")
	own := func(s string) bool { return dotted == s || strings.HasSuffix(s, ".") && strings.HasPrefix(dotted, s) }
	if !slices.ContainsFunc(ownSysctls, own) {
		return errs.Invalidf("it is the whole host's, want one of net.*, user.*, fs.mqueue.*, kernel.msg*, kernel.sem*, kernel.shm* or kernel.domainname")
	}
	return nil
}

func isBase64(v string) bool {
	_, err := base64.StdEncoding.DecodeString(v)
	return err == nil && oneLine(v)
}

func credentialName(name string) error {
	if !only(name, letters+digits+"._-@") || name[0] == '.' {
		return errs.Invalidf(`a credential's name has letters, digits and "._-@", with no dot first`)
	}
	return nil
}
