package tests

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// cacheDir is where images that take long to make are kept between tests and
// between runs.
func cacheDir() string {
	return cmp.Or(os.Getenv("CUIB_TEST_CACHE"), filepath.Join(os.TempDir(), "cuib-test"))
}

// rootfsSuffix is what the second file of a split image has after the name of
// the first.
const rootfsSuffix = ".rootfs"

// locked runs fn while no other test process runs one with the same name.
func locked(name string, fn func() error) error {
	if err := os.MkdirAll(cacheDir(), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(cacheDir(), name+".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return fn()
}

// cmdImage imports a test image under an alias: "image tiny", "image debian
// [ALIAS]", "image cloud", "image sysvinit", "image runit"
// or "image nesting". The first is a
// busybox with an init of its own, the others a real Debian, with systemd
// alone, with cloud-init, or with another init, which Cuib itself builds once.
// Any other kind is the source of such an image, as "debian:sid/runit".
func cmdImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: image tiny|debian|cloud|sysvinit|runit|nesting [ALIAS]")
	}
	ts.Check(hostOf(ts).image(args[0], args[len(args)-1]))
}

// image imports a test image under an alias.
func (h *host) image(kind, alias string) error {
	files, err := imageFiles(kind)
	if err != nil {
		return err
	}
	args := append([]string{filepath.Join(binDir, "cuib"), "image", "import"}, files...)
	_, err = h.user(append(args, "--alias", alias)...)
	return err
}

// imageFiles returns the one or two files of a test image, and makes them
// where there are none.
func imageFiles(kind string) ([]string, error) {
	build := map[string]func(path string) error{
		"tiny": makeTiny, "debian": makeDebian("debian:bookworm"), "cloud": makeDebian("debian:bookworm/cloud"),
		"sysvinit": makeDebian("debian:bookworm/sysvinit"), "runit": makeDebian("debian:bookworm/runit"), "nesting": makeNesting,
	}[kind]
	if build == nil {
		build = makeDebian(kind)
		kind = strings.NewReplacer(":", "-", "/", "-").Replace(kind)
	}
	path := filepath.Join(cacheDir(), "e2e-"+kind+".tar.gz") // Whatever its compression is.
	err := locked("e2e-"+kind, func() error {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		return build(path)
	})
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(path + rootfsSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return []string{path}, nil
	}
	return []string{path, path + rootfsSuffix}, err
}

// The tiny image: busybox with an init that does what a guest's has to.
var tinyFiles = map[string]string{
	"metadata.yaml": "architecture: x86_64\ncreation_date: 1700000000\nproperties:\n  os: tiny\n  description: Tiny test image\n",
	"rootfs/sbin/init": `#!/bin/sh
trap 'exit 0' PWR TERM RTMIN+3
trap 'reboot -f' INT RTMIN+5
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
ip link set lo up
[ -e /sys/class/net/eth0 ] && ip link set eth0 up && udhcpc -b -S -i eth0 -s /etc/udhcpc.sh >/dev/null 2>&1
echo "tiny: started"
while :; do sleep 3600 & wait $!; done
`,
	"rootfs/etc/udhcpc.sh": `#!/bin/sh
case "$1" in
bound|renew)
	ip addr flush dev "$interface"
	ip addr add "$ip/$mask" dev "$interface"
	[ -n "$router" ] && ip route add default via "$router"
	: >/etc/resolv.conf
	[ -n "$domain" ] && echo "search $domain" >>/etc/resolv.conf
	for d in $dns; do echo "nameserver $d" >>/etc/resolv.conf; done ;;
esac
exit 0
`,
	"rootfs/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n",
	"rootfs/etc/group":  "root:x:0:\nuser:x:1000:\n",
}

// makeTiny writes the tiny image, as a unified tarball.
func makeTiny(path string) error {
	dir, err := os.MkdirTemp("", "cuib-tiny-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, d := range []string{"bin", "dev", "etc", "home/user", "proc", "root", "run", "sbin", "sys", "tmp", "usr/bin", "usr/sbin", "var/log"} {
		if err := os.MkdirAll(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			return err
		}
	}
	for name, text := range tinyFiles {
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			return err
		}
	}
	busybox := filepath.Join(dir, "rootfs/bin/busybox")
	if _, err := run("cp", "/bin/busybox", busybox); err != nil {
		return err
	}
	if _, err := run("chroot", filepath.Join(dir, "rootfs"), "/bin/busybox", "--install", "-s", "/bin"); err != nil {
		return err
	}
	if _, err := run("chown", "-R", "1000:1000", filepath.Join(dir, "rootfs/home/user")); err != nil {
		return err
	}
	_, err = run("tar", "-C", dir, "--numeric-owner", "-czf", path+".part", "metadata.yaml", "rootfs")
	if err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// makeDebian has Cuib build a Debian and exports it. The daemon that builds
// is in the host's network, where the mirror is.
func makeDebian(source string) func(path string) error {
	return func(path string) error { return buildImage(source, path) }
}

func buildImage(source, path string) (err error) {
	work, err := os.MkdirTemp("", "cuib-build-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	b := &host{work: work}
	if b.dir, err = newDir(); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	if b.log, err = os.Create(filepath.Join(work, "cuibd.log")); err != nil {
		return err
	}
	defer b.log.Close()
	if err := b.start(); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.stop(syscall.SIGTERM))
		_, _ = run("umount", "-l", filepath.Join(b.dir, "lxcfs")) // Where the host has none, the daemon leaves its own.
	}()

	cuib := filepath.Join(binDir, "cuib")
	if _, err := b.user(cuib, "image", "build", source, "--alias", "built"); err != nil {
		return err
	}
	if _, err := b.user(cuib, "image", "export", "built", filepath.Join(work, "image")); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(work, "image.*"))
	if err != nil || len(files) != 2 {
		return fmt.Errorf("export made %v, want two files (%w)", files, err)
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
	if _, err := run("mv", files[1], path+rootfsSuffix); err != nil {
		return err
	}
	_, err = run("mv", files[0], path)
	return err
}

// withContainers makes of the root file system $1 the file $2, with Docker,
// Podman, and what Cuib needs.
const withContainers = `
mount -t tmpfs -o size=3G image /mnt
mkdir /mnt/root
tar -C /mnt/root --numeric-owner --xattrs --xattrs-include='*' -xf "$1"
cd /mnt/root
mount --bind /dev dev
mount -t tmpfs volatile run
mount -t proc kernel proc
mkdir -p run/systemd/resolve
cp -L /etc/resolv.conf run/systemd/resolve/stub-resolv.conf
printf '#!/bin/sh\nexit 101\n' >usr/sbin/policy-rc.d
chmod +x usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
chroot . apt-get update -q
chroot . apt-get install -q -y --no-install-recommends docker.io podman uidmap slirp4netns fuse-overlayfs iptables nftables \
	dbus-user-session libpam-systemd busybox-static liblxc1 lxcfs dnsmasq-base squashfs-tools xz-utils
chroot . apt-get clean
rm usr/sbin/policy-rc.d var/lib/apt/lists/*_*
umount run dev proc
tar -C /mnt/root --numeric-owner --xattrs --xattrs-include='*' -c . | zstd -q -3 -T0 >"$2"
`

// makeNesting makes an image for tests of containers in containers of the
// Debian image: Cuib builds none with other packages.
func makeNesting(path string) error {
	base, err := imageFiles("debian")
	if err != nil {
		return err
	}
	root := path + rootfsSuffix
	if _, err := run("unshare", "--mount", "sh", "-ec", withContainers, "sh", base[1], root+".part"); err != nil {
		return err
	}
	if err := os.Rename(root+".part", root); err != nil {
		return err
	}
	_, err = run("cp", base[0], path)
	return err
}
