#!/bin/sh
# Sets systemd up in the root $1.
set -eu
umask 022
root=$1

mask() {
	for unit; do
		ln -sf /dev/null "$root/etc/systemd/system/$unit"
	done
}

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
# Where netplan is installed it is to work without udev, too.
mkdir -p "$root/etc/systemd/system/netplan-configure.service.d"
cat >"$root/etc/systemd/system/netplan-configure.service.d/container.conf" <<'END'
[Service]
ExecStartPost=
END
chroot "$root" systemctl --quiet enable systemd-networkd.service systemd-resolved.service
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

# What cannot work without the host's privileges, or is the host's affair.
mask sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
	sys-fs-fuse-connections.mount dev-hugepages.mount \
	systemd-journald-audit.socket systemd-udevd.service systemd-udevd-control.socket \
	systemd-udevd-kernel.socket systemd-udev-trigger.service systemd-modules-load.service \
	e2scrub_reap.service e2scrub_all.timer
