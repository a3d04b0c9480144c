package profiles

import (
	"strings"
	"unicode"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/project"
)

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

// The names of objects of projects can be their keys: see package project.

// CheckInstanceName reports what is wrong with the name of an instance, which
// is its host name too.
func CheckInstanceName(name string) error {
	const want = "1 to 63 letters, digits and dashes, with a letter first and no dash last"
	name = project.InstanceName(name)
	return checkName("instance", name, want, func() bool {
		return len(name) <= 63 && only(name, letters+digits+"-") && !strings.ContainsRune(digits+"-", rune(name[0])) && !strings.HasSuffix(name, "-")
	})
}

// CheckSnapshotName reports what is wrong with the name of a snapshot.
func CheckSnapshotName(name string) error { return checkPlain("snapshot", name) }

// CheckProfileName reports what is wrong with the name of a profile.
func CheckProfileName(name string) error { return checkPlain("profile", project.Name(name)) }

// CheckDeviceName reports what is wrong with the name of a device.
func CheckDeviceName(name string) error {
	const want = `1 to 64 letters, digits, and ".", "_", "-", ":"`
	return checkName("device", name, want, func() bool {
		return len(name) <= 64 && only(name, letters+digits+"._-:") && name != "." && name != ".."
	})
}

// CheckPoolName reports what is wrong with the name of a storage pool.
func CheckPoolName(name string) error {
	const want = `1 to 63 letters, digits, and ".", "_", "-", with a letter or digit first`
	return checkName("storage pool", name, want, func() bool {
		return len(name) <= 63 && only(name, letters+digits+"._-") && !strings.ContainsRune("._-", rune(name[0]))
	})
}

// CheckNetworkName reports what is wrong with the name of a network, which is
// its interface's too.
func CheckNetworkName(name string) error { return CheckInterfaceName("network", project.Name(name)) }

// CheckInterfaceName reports what is wrong with the name of a network
// interface; what says whose it is.
func CheckInterfaceName(what, name string) error {
	const want = `1 to 15 letters, digits, and ".", "_", "-", with a letter or digit first`
	return checkName(what, name, want, func() bool {
		return len(name) <= 15 && only(name, letters+digits+"._-") && !strings.ContainsRune("._-", rune(name[0]))
	})
}

// checkPlain is for names that only the daemon and the file system see.
func checkPlain(what, name string) error {
	const want = `1 to 63 letters, digits and signs, without "/", spaces or quotes, and with no "." or "-" first`
	return checkName(what, name, want, func() bool {
		bad := func(r rune) bool {
			return !unicode.IsPrint(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar || strings.ContainsRune(`/\'"`+"`?#%", r)
		}
		return len(name) <= 63 && !strings.ContainsFunc(name, bad) && name[0] != '.' && name[0] != '-'
	})
}

func checkName(what, name, want string, ok func() bool) error {
	if name == "" {
		return errs.Invalidf("%s name: it is empty, want %s", what, want)
	}
	if !ok() {
		return errs.Invalidf("%s name: got %s, want %s", what, quote(name), want)
	}
	return nil
}

func only(s, chars string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune(chars, r) })
}

func oneLine(v string) bool { return !strings.ContainsAny(v, "\n\r\x00") }
