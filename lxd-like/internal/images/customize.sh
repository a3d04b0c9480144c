#!/bin/sh
# Makes a container image of what mmdebstrap installed in $1. The files
# debian.sources and apt.conf are beside this script.
set -eu
umask 022
root=$1
here=${0%/*}

mask() {
	for unit; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit"
	done
}

# Packages come from where those of the image came from.
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
cp "$here/debian.sources" "$root/etc/apt/sources.list.d/debian.sources"
if [ -s "$here/apt.conf" ]; then
	cp "$here/apt.conf" "$root/etc/apt/apt.conf.d/90mirror"
fi

# Addresses by DHCP and router advertisements, names by resolved. The client
# is known by its MAC address, so that it keeps its address when its machine
# id changes.
mkdir -p "$root/etc/systemd/network"
cat >"$root/etc/systemd/network/eth0.network" <<'END'
[Match]
Name=eth0

[Network]
DHCP=yes
IPv6AcceptRA=yes

[DHCPv4]
ClientIdentifier=mac
UseDomains=yes
UseHostname=no

[IPv6AcceptRA]
UseDomains=yes
END
# networkd waits for udev to have seen each interface unless /sys is read-only,
# by which it knows a container. There is no udev, whatever /sys is here.
mkdir -p "$root/etc/systemd/system/systemd-networkd.service.d"
cat >"$root/etc/systemd/system/systemd-networkd.service.d/container.conf" <<'END'
[Service]
BindReadOnlyPaths=/sys
END
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
rm -f "$root/etc/hostname"
echo localhost >"$root/etc/hostname"
cat >"$root/etc/hosts" <<'END'
127.0.0.1	localhost
::1		localhost ip6-localhost ip6-loopback
ff02::1		ip6-allnodes
ff02::2		ip6-allrouters
END

# What cannot work without the host's privileges, or is the host's affair.
mask sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
	sys-fs-fuse-connections.mount dev-hugepages.mount \
	systemd-journald-audit.socket systemd-udevd.service systemd-udevd-control.socket \
	systemd-udevd-kernel.socket systemd-udev-trigger.service systemd-modules-load.service \
	e2scrub_reap.service e2scrub_all.timer

echo 'LANG=C.UTF-8' >"$root/etc/default/locale"
ln -sf default/locale "$root/etc/locale.conf"
: >"$root/etc/fstab"

# What must differ in each instance is made at its first start.
: >"$root/etc/machine-id"
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"

# What dpkg left out, of the packages that were there before it. Packages that
# are installed later expect the directories of manual pages.
rm -f "$root/etc/dpkg/dpkg.cfg.d/98build"
find "$root/usr/share/doc" -type f ! -name copyright -delete
find "$root/usr/share/doc" -mindepth 1 -type d -empty -delete
find "$root/usr/share/locale" -mindepth 1 ! -path '*/locale.alias' -delete
rm -rf "$root"/usr/share/man/*
for section in 1 2 3 4 5 6 7 8; do
	mkdir "$root/usr/share/man/man$section"
done

find "$root/var/log" "$root/var/lib/apt/lists" -type f -delete
rm -rf "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/apt/*.bin "$root"/tmp/* "$root"/run/*
