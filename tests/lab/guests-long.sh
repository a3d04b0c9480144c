#!/bin/sh
# Each Debian with each init reaches its running state on cgroup v2, without a
# failed unit or service, restarts and halts.
set -eu
mkfs.ext4 -q -E lazy_itable_init=1 /dev/ubda
DISK_OPTS=-onoatime DISK=/dev/ubda
. ./lib
for image in e2e-debian-*.tar.gz; do
	name=${image#e2e-debian-}
	name=${name%.tar.gz}
	cuib image import "$image" "$image.rootfs" --alias "$name" >/dev/null
	cuib launch "$name" "$name"
	cuib wait "$name" --for ipv4 --timeout 300
	case $name in
	*-*) # Not systemd: it has a login when it has booted, and what has failed says so.
		for _ in $(seq 300); do
			cuib logs "$name" | grep -q "$name login:" && break
			sleep 1
		done
		want "login of $name" "$(cuib logs "$name" | grep -c "$name login:")" 1
		want "complaints of $name" "$(cuib logs "$name" | grep -E 'failed\.|ERROR|[Ww]arning: |: not found' || true)" ""
		;;
	*)
		cuib wait "$name" --for systemd --timeout 300 || true # What failed is told below.
		want "failed units of $name" "$(cuib exec "$name" -- systemctl --failed --no-legend --plain)" ""
		want "state of $name" "$(cuib exec "$name" -- systemctl is-system-running || true)" running
		;;
	esac
	cuib exec "$name" -- sh -c 'echo x >/dev/mark'
	cuib restart "$name" --timeout 300
	for _ in $(seq 300); do
		cuib exec "$name" -- test ! -e /dev/mark && break
		sleep 1
	done
	cuib exec "$name" -- test ! -e /dev/mark
	cuib stop "$name" --timeout 300
	cuib delete "$name"
	cuib image delete "$name"
	echo "$name: runs, restarts and halts"
done
