#!/bin/sh
# Sets an init other than systemd up in the root $1: sysvinit, alone or with
# OpenRC, or runit.
set -eu
umask 022
root=$1

# Addresses by DHCP and router advertisements.
cat >"$root/etc/network/interfaces" <<'END'
auto lo
iface lo inet loopback

auto eth0
iface eth0 inet dhcp
END

# runit starts programs without PATH, in which that of DHCP is looked for.
echo 'export PATH' >>"$root/etc/default/networking"

# checkroot.sh would make it, which is not run.
ln -sf ../proc/self/mounts "$root/etc/mtab"

# There is one terminal, the console.
getty='/sbin/getty --noclear --keep-baud console 115200,38400,9600 linux'
if [ -e "$root/etc/inittab" ]; then
	sed -i '/^[1-6]:.*getty/d' "$root/etc/inittab"
	echo "1:2345:respawn:$getty" >>"$root/etc/inittab"
fi
if [ -d "$root/etc/runit/runsvdir/default" ]; then
	rm -f "$root"/etc/runit/runsvdir/default/getty-*
	mkdir -p "$root/etc/sv/getty-console"
	printf '#!/bin/sh\nexec %s\n' "$getty" >"$root/etc/sv/getty-console/run"
	chmod 755 "$root/etc/sv/getty-console/run"
	ln -s /etc/sv/getty-console "$root/etc/runit/runsvdir/default/getty-console"
fi

# runit of forky and later has the kernel give control groups to services, which it
# refuses in a guest: processes are in the topmost group that the guest sees.
if [ -e "$root/usr/sbin/runsv-cg" ]; then
	mkdir -p "$root/usr/share/runit"
	chroot "$root" dpkg-divert --quiet --local --rename --divert /usr/share/runit/runsv-cg /usr/sbin/runsv-cg
	cat >"$root/usr/sbin/runsv-cg" <<'END'
#!/bin/sh
[ "$1" != setup ] || exit 0
exec /usr/share/runit/runsv-cg "$@"
END
	chmod 755 "$root/usr/sbin/runsv-cg"
fi

# What cannot work without the host's privileges, or is the host's affair.
for conf in 10-coredump-debian.conf 50-pid-max.conf 99-protect-links.conf; do
	ln -sf /dev/null "$root/etc/sysctl.d/$conf"
done
for unit in bootlogs brightness checkfs.sh checkroot-bootclean.sh checkroot.sh hwclock.sh mount-configfs umountfs umountroot udev eudev; do
	if [ -e "$root/etc/init.d/$unit" ]; then
		# One that only stops something cannot be disabled in this way.
		chroot "$root" update-rc.d "$unit" disable 2>/dev/null || :
		rm -f "$root"/etc/rc?.d/S??"$unit" "$root"/etc/rc[06].d/K??"$unit" "$root"/etc/runlevels/*/"$unit"
	fi
done

# The groups of OpenRC below /sys are the host's, too.
rm -f "$root/etc/runlevels/sysinit/cgroups"

# initscripts of forky and later empty a /run that they did not mount themselves, in
# which OpenRC keeps what has started. This file tells them that it is in memory.
if [ -d "$root/etc/runlevels" ]; then
	echo '[ ! -d /run/openrc ] || : >/run/.tmpfs' >>"$root/etc/default/rcS"
	# A boot that is cut short can leave its state on the disk, below where /run is
	# mounted: a later one would take itself for one that halts already.
	sed -i '/^si::sysinit:/i cr::sysinit:/bin/rm -rf /run/openrc' "$root/etc/inittab"
fi

# OpenRC starts these even so, for those that name them in their headers. What
# stands in for them has their headers and does nothing.
if [ -d "$root/etc/runlevels" ]; then
	mkdir -p "$root/usr/share/openrc"
	for unit in checkfs.sh checkroot-bootclean.sh checkroot.sh umountfs umountroot; do
		[ -e "$root/etc/init.d/$unit" ] || continue
		chroot "$root" dpkg-divert --quiet --local --rename --divert "/usr/share/openrc/$unit" "/etc/init.d/$unit"
		{
			echo '#!/bin/sh'
			sed -n '/^### BEGIN INIT INFO/,/^### END INIT INFO/p' "$root/usr/share/openrc/$unit"
			echo 'exit 0'
		} >"$root/etc/init.d/$unit"
		chmod 755 "$root/etc/init.d/$unit"
	done
fi
