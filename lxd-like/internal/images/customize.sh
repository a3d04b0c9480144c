#!/bin/sh
# Makes a container image of what mmdebstrap installed in $1. The files
# debian.sources and apt.conf are beside this script.
set -eu
umask 022
root=$1
here=${0%/*}

# Packages come from where those of the image came from.
rm -f "$root/etc/apt/sources.list" "$root"/etc/apt/sources.list.d/*
rm -f "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
cp "$here/debian.sources" "$root/etc/apt/sources.list.d/debian.sources"
if [ -s "$here/apt.conf" ]; then
	cp "$here/apt.conf" "$root/etc/apt/apt.conf.d/90mirror"
fi

# Names.
rm -f "$root/etc/hostname"
echo localhost >"$root/etc/hostname"
cat >"$root/etc/hosts" <<'END'
127.0.0.1	localhost
::1		localhost ip6-localhost ip6-loopback
ff02::1		ip6-allnodes
ff02::2		ip6-allrouters
END

# One of the two names of this file is a link to the other. Since trixie
# packages bring the one that is in default.
if [ -L "$root/etc/default/locale" ]; then
	rm -f "$root/etc/locale.conf"
	echo 'LANG=C.UTF-8' >"$root/etc/locale.conf"
else
	echo 'LANG=C.UTF-8' >"$root/etc/default/locale"
	ln -sf default/locale "$root/etc/locale.conf"
fi
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
