package networkstest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/shared/testenv"
)

// The firewalls of others, each as its own programs make it, on the host that
// [Host] gave the test.

// Docker makes the rules that Docker makes, by the iptables with the suffix
// "-nft" or "-legacy".
func Docker(tb testing.TB, suffix string) {
	tb.Helper()
	for _, program := range []string{"iptables" + suffix, "ip6tables" + suffix} {
		testenv.Kernel(tb, program)
		for _, c := range []string{
			"-P FORWARD DROP", "-N DOCKER-USER", "-N DOCKER", "-A FORWARD -j DOCKER-USER",
			"-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A FORWARD -o docker0 -j DOCKER",
			"-A FORWARD -i docker0 ! -o docker0 -j ACCEPT", "-A DOCKER-USER -j RETURN",
		} {
			testenv.Run(tb, append([]string{program, "-w"}, strings.Fields(c)...)...)
		}
	}
}

// UFW turns on ufw, with its configuration and its rules in namespaces of the
// test.
func UFW(tb testing.TB) {
	tb.Helper()
	testenv.Kernel(tb, "ufw")
	private(tb, "/etc/ufw", "/etc/default")
	testenv.Run(tb, "ufw", "--force", "enable")
}

// Firewalld starts firewalld with a bus of its own, and with the file of a zone
// if that is not empty.
func Firewalld(tb testing.TB, zone string) {
	tb.Helper()
	testenv.Kernel(tb, "firewalld", "dbus-daemon")
	private(tb, "/etc/firewalld")
	if zone != "" {
		testenv.Run(tb, "cp", zone, "/etc/firewalld/zones/")
	}
	dir := Dir(tb)
	const policy = `<busconfig><type>system</type><listen>unix:path=DIR/bus</listen><policy context="default">` +
		`<allow eavesdrop="true"/><allow own="*"/><allow send_destination="*"/></policy></busconfig>`
	conf := filepath.Join(dir, "bus.conf")
	must(tb, os.WriteFile(conf, []byte(strings.ReplaceAll(policy, "DIR", dir)), 0o644))
	tb.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+dir+"/bus")
	background(tb, "dbus-daemon", "--config-file="+conf, "--nofork", "--nopidfile")
	testenv.Eventually(tb, "the bus is there", func() bool {
		_, err := os.Stat(filepath.Join(dir, "bus"))
		return err == nil
	})
	background(tb, "firewalld", "--nofork", "--nopid", "--log-file", filepath.Join(dir, "log"))
	testenv.Eventually(tb, "firewalld runs", func() bool {
		return exec.CommandContext(tb.Context(), "firewall-cmd", "--state").Run() == nil
	})
}

// background runs a program until the test ends.
func background(tb testing.TB, args ...string) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	must(tb, cmd.Start())
	tb.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // It was killed.
	})
}

// private gives the thread of the test a mount namespace with copies of
// directories, and an empty /run.
func private(tb testing.TB, dirs ...string) {
	tb.Helper()
	must(tb, unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS))
	must(tb, unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for _, dir := range dirs {
		own := filepath.Join(tb.TempDir(), "copy")
		testenv.Run(tb, "cp", "-a", dir, own)
		must(tb, unix.Mount(own, dir, "", unix.MS_BIND, ""))
	}
	must(tb, unix.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	tb.Cleanup(func() {
		for _, dir := range append(dirs, "/run") {
			_ = unix.Unmount(dir, unix.MNT_DETACH) // Or the copies cannot be removed.
		}
	})
}
