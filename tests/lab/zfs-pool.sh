#!/bin/sh
# Instances and volumes on pools of OpenZFS, as users have them.
set -eu
. ./zfs-fast
. ./lib
at() { cuib exec "$1" -- sh -c "$2"; }
cuib storage create z zfs size=512MiB
want "the pool's datasets" "$(zfs list -H -r -o name z/containers z/images z/custom)" "z/containers
z/custom
z/images"
cuib launch tiny c1 -s z
at c1 'echo one >/root/f; chown 5:6 /root/f'
want "the dataset" "$(zfs list -H -r -o name z/containers)" "z/containers
z/containers/c1"
want "it is a clone of its image" "$(zfs get -H -o value origin z/containers/c1 | cut -d/ -f1,2)" z/images
want "its mount point" "$(zfs get -H -o value mountpoint z/containers/c1)" legacy

# Snapshots, the second of which outlives the restore of the first.
cuib snapshot create c1 s0
at c1 'echo two >/root/f; echo new >/root/new'
cuib snapshot create c1 s1
want "what changed" "$(cuib snapshot diff c1 s0 --format csv | grep -c root/new)" 1
cuib snapshot restore c1 s0
want restored "$(at c1 'cat /root/f; stat -c %u:%g /root/f')" "one
5:6"
cuib snapshot restore c1 s1
want "restored again" "$(at c1 'cat /root/f')" two
cuib copy c1/s0 c2
cuib copy c1 c3
cuib delete --force c1
cuib start c2 c3
want "a copy of a snapshot" "$(at c2 'cat /root/f')" one
want "a copy" "$(at c3 'cat /root/f')" two

# A limit, and a guest that reaches it.
cuib config device set c2 root size=40MiB
if at c2 'dd if=/dev/urandom of=/root/big bs=1M count=80' 2>/tmp/err; then
	echo "80 MiB went into 40 MiB"
	exit 1
fi
grep -Eqi 'no space|quota' /tmp/err || { cat /tmp/err; exit 1; }
# It can still be looked into, snapshotted and started, and more is more at once.
# What it is said to use is what the limit counts, snapshots too.
at c2 sync
cuib snapshot create c2 full
cuib info c2 | grep -Eq 'root: (3[89]|40)[.0-9]*MiB of 40.00MiB' || { cuib info c2; exit 1; }
cuib stop --force c2
cuib start c2
cuib config device set c2 root size=60MiB
at c2 'dd if=/dev/urandom of=/root/more bs=1M count=5'
at c2 'rm /root/more'
cuib snapshot delete c2 full
at c2 'rm /root/big'
for _ in $(seq 360); do # ZFS frees a little later.
	at c2 'dd if=/dev/urandom of=/root/small bs=1M count=10' 2>/tmp/err && break
	sleep 0.5
done
want "written after the removal" "$(at c2 'stat -c %s /root/small')" 10485760
if cuib config device set c2 root size=1MiB 2>/tmp/err; then
	echo "a size below what is used was taken"
	exit 1
fi
grep -q 'holds' /tmp/err || { cat /tmp/err; exit 1; }

# What the pool has for new volumes, new roots have.
cuib storage set z volume.zfs.compression=gzip volume.zfs.use_refquota=true volume.size=50MiB
cuib launch tiny c6 -s z
want "the options of a root" "$(zfs get -H -p -o value compression,quota,refquota z/containers/c6 | xargs)" "gzip 0 52428800"
cuib delete --force c6
cuib storage set z volume.zfs.compression= volume.zfs.use_refquota= volume.size=

# Archives, which the pool's own streams make too.
cuib export c3 /tmp/c3.tar --compression none
cuib export c3 /tmp/c3-zfs.tar --compression none --optimized-storage
cuib import /tmp/c3.tar c4 --storage z
cuib import /tmp/c3-zfs.tar c5 --storage z
cuib start c4 c5
want "from an archive" "$(at c4 'cat /root/f')$(at c5 'cat /root/f')" twotwo
cuib delete --force c2 c4 c5

# The database is lost, and the zpool exported.
cuib stop --force c3
daemon=$!
kill "$daemon"
wait "$daemon" || true
rm -r /cuib/database
zpool export z
cuibd --debug >>/tmp/cuibd.log 2>&1 &
cuib admin waitready --timeout 300
cuib admin recover z=zfs
cuib start c3
want "recovered" "$(at c3 'cat /root/f')" two
cuib delete --force c3
cuib storage delete z
want "zpools left" "$(zpool list -H)" ""
