#!/bin/sh
# Size limits by project quotas, on overlay and on plain directories.
set -eu
mkfs.ext4 -q -O project,quota -E lazy_itable_init=1 /dev/ubda
DISK_OPTS=-oprjquota DISK=/dev/ubda
. ./lib
cuib storage create over overlay
cuib storage create plain dir
for pool in over plain; do
	cuib launch tiny "$pool" -s "$pool" -d root,size=40MiB
	if cuib exec "$pool" -- dd if=/dev/zero of=/root/big bs=1M count=80 2>/tmp/err; then
		echo "$pool: 80 MiB went into 40 MiB"
		exit 1
	fi
	grep -Eqi 'no space|quota' /tmp/err || { cat /tmp/err; exit 1; }
	# A guest that is full can still be entered, and repaired.
	cuib exec "$pool" -- rm /root/big
	cuib exec "$pool" -- dd if=/dev/zero of=/root/small bs=1M count=10
	cuib config device set "$pool" root size=100MiB
	cuib exec "$pool" -- dd if=/dev/zero of=/root/big bs=1M count=60
	cuib delete --force "$pool"
done
