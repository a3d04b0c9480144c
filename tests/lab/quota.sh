#!/bin/sh
# Size limits by project quotas, on overlay and on plain directories.
set -eu
mkfs.ext4 -q -O project,quota -E lazy_itable_init=1 /dev/ubda
DISK_OPTS=-oprjquota DISK=/dev/ubda
. ./lib
usage() { cuib query "/1.0/instances/$1/state" | grep -A1 '"root": {' | sed -n 's/.*"usage": \([0-9]*\),/\1/p'; }
# near WHAT GOT WANT fails if they differ by more than 64 KiB.
near() {
	[ $(($2 - $3)) -le 65536 ] && [ $(($3 - $2)) -le 65536 ] || { echo "$1: got $2, want $3"; exit 1; }
}
cuib storage create over overlay
cuib storage create plain dir
for pool in over plain; do
	cuib launch tiny "$pool" -s "$pool" -d root,size=40MiB

	# What is said to be used is what df in the guest says, and du on the host.
	cuib exec "$pool" -- sh -c 'dd if=/dev/urandom of=/root/some bs=1M count=10; sync'
	near "the usage of $pool" "$(usage "$pool")" "$(cuib exec "$pool" -- df -k / | awk 'END { print $3 * 1024 }')"
	dir=/cuib/pools/$pool/data/volumes/instance/$pool/cur
	[ "$pool" = plain ] || dir=$dir/upper
	[ -d "$dir" ] || { find /cuib/pools -maxdepth 6; exit 1; }
	near "the usage of $pool" "$(usage "$pool")" "$(du -sk "$dir" | awk '{ print $1 * 1024 }')"
	cuib snapshot create "$pool" some
	cuib exec "$pool" -- sync
	near "the usage of $pool with a snapshot" "$(usage "$pool")" "$(cuib exec "$pool" -- df -k / | awk 'END { print $3 * 1024 }')"
	cuib snapshot delete "$pool" some
	cuib exec "$pool" -- rm /root/some

	if cuib exec "$pool" -- dd if=/dev/zero of=/root/big bs=1M count=80 2>/tmp/err; then
		echo "$pool: 80 MiB went into 40 MiB"
		exit 1
	fi
	grep -Eqi 'no space|quota' /tmp/err || { cat /tmp/err; exit 1; }
	# A guest that is full can still be entered, listed, snapshotted, stopped,
	# started and repaired, and its df is the limit.
	cuib exec "$pool" -- true
	cuib info "$pool" | grep -Eq 'root: (39|40)[.0-9]*MiB of 40.00MiB' || { cuib info "$pool"; exit 1; }
	want "the state of $pool" "$(cuib list "$pool" --format csv --columns s)" RUNNING
	want "df in $pool" "$(cuib exec "$pool" -- df -k / | awk 'END { print $2 }')" 40960
	cuib snapshot create "$pool" full
	cuib stop --force "$pool"
	cuib start "$pool"
	cuib snapshot restore "$pool" full
	cuib config device set "$pool" root size=60MiB
	cuib exec "$pool" -- dd if=/dev/zero of=/root/more bs=1M count=5
	cuib exec "$pool" -- rm /root/big /root/more
	cuib snapshot delete "$pool" full
	cuib exec "$pool" -- dd if=/dev/zero of=/root/small bs=1M count=10
	cuib config device set "$pool" root size=100MiB
	cuib exec "$pool" -- dd if=/dev/zero of=/root/big bs=1M count=60
	used=$(cuib info "$pool" | sed -n 's/^ *root: \([0-9]*\)\..*MiB of 100.*/\1/p')
	[ "${used:-0}" -ge 70 ] && [ "$used" -le 80 ] || { cuib info "$pool"; exit 1; }

	# Volumes likewise.
	cuib storage volume create "$pool" data size=20MiB
	cuib storage volume attach "$pool" data "$pool" /data
	if cuib exec "$pool" -- dd if=/dev/zero of=/data/big bs=1M count=30 2>/tmp/err; then
		echo "$pool: 30 MiB went into a volume of 20 MiB"
		exit 1
	fi
	cuib exec "$pool" -- sync
	cuib storage volume info "$pool" data | grep -Eq '^Usage: (19|20)[.0-9]*MiB .(9|100)' || { cuib storage volume info "$pool" data; exit 1; }
	cuib storage volume snapshot create "$pool" data full
	want "df of a volume of $pool" "$(cuib exec "$pool" -- stat -f -c '%b %S' /data)" "5120 4096"
	cuib storage volume set "$pool" data size=60MiB
	cuib exec "$pool" -- dd if=/dev/zero of=/data/big bs=1M count=30
	cuib delete --force "$pool"
	cuib storage volume delete "$pool" data
done
