#!/bin/sh
# A real system reaches its running state on cgroup v2, below AppArmor.
set -eu
mkfs.ext4 -q -E lazy_itable_init=1 /dev/ubda
DISK_OPTS=-onoatime DISK=/dev/ubda
. ./lib
cuib image import e2e-debian.tar.gz e2e-debian.tar.gz.rootfs --alias debian
cuib launch debian web -c limits.memory=512MiB -c limits.cpu=1 -c raw.apparmor='deny /etc/hidden r,'
cuib launch debian deep -c security.nesting=true
cuib launch debian owner -c security.privileged=true
cuib launch debian near --network host
for i in web deep owner near; do
	cuib wait "$i" --for systemd --timeout 300 || true # What failed is told below.
	want "failed units of $i" "$(cuib exec "$i" -- systemctl --failed --no-legend --plain)" ""
	want "state of $i" "$(cuib exec "$i" -- systemctl is-system-running || true)" running
done
cuib stop deep owner near
want processors "$(cuib exec web -- nproc)" 1
cuib wait web --for ipv4
cuib config set web limits.memory=768MiB
want "memory, live" "$(cat "$(group web)/memory.max")" 805306368
cuib exec web -- sh -c 'echo x >/etc/hidden'
want "what raw.apparmor denies" "$(cuib exec web -- cat /etc/hidden 2>&1 || true)" "cat: /etc/hidden: Permission denied"
# The socket of the guest API is there, for its root.
cuib file push "$(command -v guestask)" web/usr/local/bin/guestask
want "guest API" "$(cuib exec web -- guestask -s /dev/lxd/sock GET /)" "200
[\"/1.0\"]"
cuib stop web
