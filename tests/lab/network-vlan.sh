#!/bin/sh
# What the host's kernel may lack for networks: VLANs, of interfaces and of
# bridges, and multicast snooping.
set -eu
. ./lib
ip netns add far
ip link add wire type veth peer name end netns far
ip link set wire up
ip -n far link set end up
answers() { # answers PING...: a first packet can be lost while a port becomes one.
	for _ in $(seq 60); do
		"$@" >/tmp/ping && return
	done
	cat /tmp/ping
	return 1
}
for id in 20 30 40; do
	ip -n far link add end.$id link end type vlan id $id
	ip -n far addr add 10.88.$id.1/24 dev end.$id
	ip -n far link set end.$id up
done

# A VLAN becomes a port of a bridge.
cuib network create br0 ipv4.address=10.88.20.2/24 ipv6.address=none bridge.external_interfaces=lab20/wire/20 bridge.multicast_snooping=false
ip -d link show lab20 | grep -q 'vlan protocol 802.1Q id 20'
answers ip netns exec far ping -c 1 -W 2 10.88.20.2
snoops() { # snoops WHAT 0|1, of a kernel that can.
	[ ! -e /sys/class/net/br0/bridge/multicast_snooping ] || want "$1" "$(cat /sys/class/net/br0/bridge/multicast_snooping)" "$2"
}
snoops snooping 0
cuib network unset br0 bridge.multicast_snooping
snoops "snooping, unset" 1
if cuib network create br1 ipv4.address=none ipv6.address=none bridge.external_interfaces=x20/wire/20 2>/tmp/err; then exit 1; fi
grep -q 'used by network "br0"' /tmp/err || { cat /tmp/err; exit 1; }
cuib network unset br0 bridge.external_interfaces
if ip link show lab20 2>/dev/null; then echo "lab20 is still there"; exit 1; fi

# Instances have VLANs of networks that are on an interface of the host.
on() { # TYPE VLAN
	cuib network create net --type "$1" parent=wire vlan="$2"
	cuib launch tiny c1 -n net
	cuib exec c1 -- ip addr add "10.88.$2.3/24" dev eth0
	cuib exec c1 -- ip link set eth0 up
	answers cuib exec c1 -- ping -c 1 -W 2 "10.88.$2.1"
	cuib delete --force c1
	cuib network delete net
	if ip link show "wire.$2" 2>/dev/null; then echo "wire.$2 is still there"; exit 1; fi
}
on macvlan 30
on physical 40

# And of networks on a bridge of the host.
ip link add lan type bridge vlan_filtering 1
ip link set lan up
cuib network create net --type physical parent=lan vlan=50 vlan.tagged=51-52
cuib launch tiny c1 -n net
port=$(cuib config get c1 volatile.eth0.host_name)
bridge vlan show dev "$port" | grep -q '50 PVID Egress Untagged'
bridge vlan show dev "$port" | grep -q '52'
cuib delete --force c1
cuib network delete net
