#!/bin/sh
# Guests that have datasets of their own.
set -eu
. ./zfs-fast
. ./lib
cuib storage create z zfs size=512MiB
tools=/tools/lib/x86_64-linux-gnu
# inside INSTANCE ARGUMENT... runs the host's zfs as the guest's root.
inside() {
	name=$1
	shift
	cuib exec "$name" -- "$tools/ld-linux-x86-64.so.2" --library-path "$tools" /tools/sbin/zfs "$@"
}
# refused INSTANCE ARGUMENT... fails if the guest may do that.
refused() {
	if inside "$@" 2>/tmp/err; then
		echo "a guest may: $*"
		exit 1
	fi
}
pid() { cuib info "$1" | sed -n 's/^PID: *//p'; }
for name in c1 c2; do
	cuib init tiny "$name" -s z
	cuib config device set "$name" root initial.zfs.delegate=true
	cuib config device add "$name" tools disk source=/usr path=/tools
	cuib start "$name"
done
cuib launch tiny c3 -s z
cuib exec c3 -- sh -c '[ ! -e /dev/zfs ]'

own=z/delegated/$(zfs get -H -o value cuib:delegated z/containers/c1)
other=z/delegated/$(zfs get -H -o value cuib:delegated z/containers/c2)
want zoned "$(zfs get -H -o value zoned "$own")" on
want "what the guest sees" "$(inside c1 list -H -o name)" "z
z/delegated
$own"
inside c1 create "$own/a"
inside c1 snapshot "$own/a@s"
inside c1 snapshot "$own/a@copy-1"
inside c1 clone "$own/a@s" "$own/b"
inside c1 promote "$own/b"
inside c1 create "$own/gone"
inside c1 destroy "$own/gone"
inside c1 hold keep "$own/b@s"
inside c1 set "cuib:delegated=x" "$own/a"
want "what the guest made" "$(zfs list -H -r -t all -o name "$own")" "$own
$own/a
$own/a@copy-1
$own/b
$own/b@s"

# What is not its own.
inside c2 create "$other/a"
refused c1 create "$other/b"
refused c1 destroy -r "$other/a"
refused c1 create z/delegated/mine
refused c1 snapshot z/containers/c1@mine
refused c1 set cuib:record.0=x z/containers/c1
refused c1 set quota=none "$own"
refused c1 set zoned=off "$own/a"
refused c1 rename "$own/a" z/a
refused c1 destroy -r z/containers/c3
want "the other's" "$(zfs list -H -r -o name "$other")" "$other
$other/a"

# Files of it in the guest, if its mounts are not confined.
inside c1 create -o mountpoint=/srv/m "$own/m" || true
if cuib exec c1 -- grep -q " /srv/m " /proc/self/mountinfo; then
	cuib exec c1 -- sh -c 'echo mine >/srv/m/f; cat /srv/m/f'
else
	echo "AppArmor keeps the guest from mounting"
fi
want "what the host mounts of it" "$(grep -c "$own" /proc/self/mountinfo || true)" 0

# A reboot gives the guest another user namespace.
before=$(pid c1)
cuib exec c1 -- sh -c 'kill -INT 1' || true
for _ in $(seq 600); do
	now=$(pid c1)
	[ -n "$now" ] && [ "$now" != "$before" ] && inside c1 list -H -o name "$own/a" 2>/dev/null && break
	sleep 0.3
done
inside c1 create "$own/after"

# All that is done with volumes goes on.
for make in "snapshot create c1 s0" "snapshot create c1 s1" "copy c1 copy"; do
	# shellcheck disable=SC2086 # It is several words.
	cuib $make 2>/tmp/err
	grep -q "the datasets .* are not in it" /tmp/err || { echo "cuib $make does not say what it leaves out"; exit 1; }
done
want "what the copy's guest has" "$(zfs get -H -o value cuib:delegated z/containers/copy)" -
cuib stop --force c1
cuib snapshot restore c1 s0
cuib rename c1 c9
cuib storage create d dir
if cuib move c9 --storage d 2>/tmp/err; then
	echo "an instance with datasets moved"
	exit 1
fi
grep -q "made datasets" /tmp/err || { cat /tmp/err; exit 1; }
want "its key after that" "$(cuib config device get c9 root initial.zfs.delegate)" true
cuib start c9
want "after a restore and a rename" "$(inside c9 list -H -o name "$own/after")" "$own/after"
cuib config device set c9 root size=100MiB
cuib restart --force c9
want "its limit" "$(zfs get -H -p -o value quota "$own")" 104857600

# A daemon that starts again keeps what belongs to somebody, and only that.
zfs create -o zoned=on -o mountpoint=none z/delegated/nobody
daemon=$!
kill "$daemon"
wait "$daemon" || true
cuibd --debug >>/tmp/cuibd.log 2>&1 &
cuib admin waitready --timeout 300
inside c9 create "$own/later"
for _ in $(seq 900); do
	zfs list z/delegated/nobody 2>/dev/null || break
	sleep 0.2
done
want "what guests have" "$(zfs list -H -d 1 -o name z/delegated | sort)" "$(printf '%s\n' z/delegated "$own" "$other" | sort)"
want "the snapshot of the guest" "$(zfs list -H -o name "$own/a@copy-1")" "$own/a@copy-1"

cuib delete --force c9
want "after its deletion" "$(zfs list -H -r -t all -o name z/delegated)" "z/delegated
$other
$other/a"
cuib delete --force c2 c3 copy

# The pool's default.
cuib storage set z volume.zfs.delegate=true
cuib launch tiny c4 -s z
cuib exec c4 -- sh -c '[ -c /dev/zfs ]'
cuib delete --force c4
want "left of all guests" "$(zfs list -H -r -t all -o name z/delegated)" z/delegated
cuib storage delete z
cuib storage delete d
want "zpools left" "$(zpool list -H)" ""
