#!/bin/sh
# What the host's kernel may lack for NICs: VLANs with GVRP, ipvlan; and many NICs
# at once on cgroup v2.
set -eu
. ./lib
. ./suite
/lab/nic.test -test.run '^Test(Macvlan|Physical|WhatTheKernelLacks)$'

# A wire with a VLAN at its other end, where an address answers.
ip netns add far
ip link add wire type veth peer name end netns far
ip link set wire up
ip -n far link set end up
ip -n far link add end.5 link end type vlan id 5
ip -n far addr add 192.0.2.1/24 dev end.5
ip -n far link set end.5 up
cuib init tiny c1
cuib config device add c1 eth0 none
alone() { # alone NAME KEY=VALUE... starts it with one NIC.
	cuib config device add c1 n nic name=nic "$@"
	cuib start c1
}
gone() {
	cuib stop --force c1
	cuib config device remove c1 n
	! ip link show wire.5 2>/dev/null
	ip link show wire >/dev/null
}
answers() { # A first packet can be lost while neighbours look for each other.
	for _ in $(seq 60); do
		cuib exec c1 -- ping -c 1 -W 2 192.0.2.1 >/dev/null && return
	done
	echo "nothing answers: $1"
	cuib exec c1 -- ip addr
	ip -d link
	return 1
}
for kind in macvlan physical; do
	alone nictype=$kind parent=wire vlan=5 gvrp=true
	[ "$kind" = physical ] || ip -d link show wire.5 | grep -q 'vlan protocol 802.1Q id 5 .*GVRP'
	cuib exec c1 -- sh -c 'ip addr add 192.0.2.2/24 dev nic; ip link set nic up'
	answers "$kind"
	gone
done
for mode in l2 l3 l3s; do
	alone nictype=ipvlan mode=$mode parent=wire vlan=5 gvrp=true ipv4.address=192.0.2.2 $([ "$mode" != l2 ] || echo ipv4.gateway=192.0.2.1)
	ip -d link show wire.5 | grep -q 'GVRP'
	want "mode of ipvlan" "$(nsenter -t "$(cuib info c1 | sed -n 's/^PID: *//p')" -n ip -d link show nic | grep -o "ipvlan *mode $mode " | xargs)" "ipvlan mode $mode"
	[ "$mode" != l2 ] || answers "ipvlan $mode" # The others are routed to.
	gone
done
ip addr add 192.0.2.9/24 dev wire
alone nictype=routed parent=wire vlan=5 gvrp=true ipv4.address=192.0.2.2
ip -d link show wire.5 | grep -q GVRP
want "route to it" "$(ip route get 192.0.2.2 | grep -o 'dev [^ ]*' | cut -c 1-8)" "dev veth"
gone
ip addr del 192.0.2.9/24 dev wire
! cuib config device add c1 n nic nictype=routed vrf=blue 2>/tmp/err
grep -q 'vrf: the kernel has no VRFs\|vrf: the host has no VRF "blue"' /tmp/err || { cat /tmp/err; exit 1; }

# Many at once: at the start, live, and after the guest's reboot.
{
	echo 'devices:'
	for n in $(seq 30); do
		printf '  n%s: {type: nic, nictype: p2p, name: n%s, host_name: h%s}\n' "$n" "$n" "$n"
	done
} | cuib profile create many
cuib profile add c1 many
count() { cuib exec c1 -- sh -c 'ls /sys/class/net | grep -c ^n'; }
cuib start c1
want "NICs at the start" "$(count)" 30
want "their ends here" "$(ls /sys/class/net | grep -c '^h[0-9]')" 30
cuib exec c1 -- sh -c 'echo >/dev/mark; kill -INT 1'
for _ in $(seq 900); do
	cuib exec c1 -- test ! -e /dev/mark 2>/dev/null && break
	sleep 0.1
done
want "NICs after a reboot" "$(count)" 30
cuib profile remove c1 many
want "NICs, all taken" "$(count || :)" 0
want "their ends, gone" "$(ls /sys/class/net | grep -c '^h[0-9]' || :)" 0
cuib profile add c1 many
want "NICs, all given live" "$(count)" 30
cuib delete --force c1
