#!/bin/sh
# Containers in instances on cgroup v2, below AppArmor.
set -eu
mkfs.ext4 -q -E lazy_itable_init=1 /dev/ubda
DISK_OPTS=-onoatime DISK=/dev/ubda
. ./lib
cuib image import e2e-nesting.tar.gz e2e-nesting.tar.gz.rootfs --alias nesting
cuib create nesting web -c security.nesting=true -c linux.sysctl.net.ipv4.ip_forward=1
cuib storage volume create default docker
cuib config device add web docker disk pool=default source=docker path=/var/lib/docker
cuib start web
for f in cuib cuibd cuib-shim; do
	cuib file push "/lab/$f" web/usr/local/bin/
done
cuib file push e2e-tiny.tar.gz nested-containers nested-cuib web/root/
for _ in $(seq 1200); do
	state=$(cuib exec web -- systemctl is-system-running || true)
	[ "$state" = running ] || [ "$state" = degraded ] && break
	sleep 0.25
done
want "failed units" "$(cuib exec web -- systemctl --failed --no-legend --plain)" ""
cuib exec web -- sh /root/nested-cuib
cuib exec web -- sh /root/nested-containers without-multiport
ip=$(cuib list web -f csv -c 4 | grep -o '[0-9.]* (eth0)' | cut -d ' ' -f 1)
for port in 8080 8082; do
	want "port $port" "$(busybox wget -qO- "http://$ip:$port/")" "from inside"
done
cuib stop --force web
