#!/bin/sh
# boots: make cut look
# Networks of several types, with what belongs to them and an instance on them,
# outlive a restart of the machine, a power cut, and an hour of suspend.
set -eu
step=$1
ip link add wire type veth peer name end # The hardware.
ip link set wire up
ip link set end up
ip netns add far
ip link add up0 type veth peer name peer netns far
ip addr add 192.0.2.1/24 dev up0
ip link set up0 up
ip -n far addr add 192.0.2.9/24 dev peer
ip -n far link set peer up
[ "$step" != make ] || mkfs.ext4 -q /dev/ubda
DISK=/dev/ubda DISK_OPTS=-odata=ordered
. ./lib

eventually() { # What is to be when all has come up.
	end=$(($(date +%s) + 120))
	while [ "$(date +%s)" -lt $end ]; do
		"$@" >/tmp/eventually 2>&1 && return
		sleep 0.1
	done
	cat /tmp/eventually
	echo "this does not come: $*"
	cuib list
	cuib warning list
	cuib network list
	nft list ruleset
	cat /tmp/cuibd.log
	exit 1
}
fetches() { ip netns exec far timeout 5 bash -c "exec 3<>/dev/tcp/192.0.2.1/$1; printf 'GET /f HTTP/1.0\r\n\r\n' >&3; grep -q served <&3"; }
serves() { cuib exec c1 -- sh -c 'mkdir -p /www; echo served >/www/f; httpd -p 80 -h /www 2>/dev/null || :'; }
resolves() { cuib exec c1 -- nslookup c1.cuib 10.88.0.1 | grep -q 10.88.0.9; }
refused() { ! ip netns exec far timeout 5 bash -c "exec 3<>/dev/tcp/192.0.2.1/$1"; }
zone() { cuib query /1.0/network-zones/lab.example.org/records/www | grep -q 192.0.2.80; }
running() { cuib list c1 --format csv --columns s | grep -q RUNNING; }
overlaid() { ip -d link show type vxlan | grep -q 'vxlan id'; }
up() { all=$(cuib network list --format csv) && ! echo "$all" | grep -i errored; }
# The other host of the overlay is not there.
quiet() { all=$(cuib warning list --format csv) && ! echo "$all" | grep -i network | grep -v 'not in touch'; }
leased() { cuib network list-leases "$1" --format csv | grep -q "c1.*$2"; }

# whole finds all as it is to be.
whole() {
	eventually running
	eventually serves
	eventually fetches 8080 # By the forward,
	eventually fetches 9090 # and by the load balancer, which has found the one that answers.
	eventually resolves
	eventually leased vx0 10.88.1
	zone
	want "NICs of c1" "$(cuib exec c1 -- sh -c "cd /sys/class/net; echo eth[0-9]" | xargs)" "eth0 eth1 eth2"
	eventually overlaid
	# Port 81 is not let in by the ACL.
	cuib exec c1 -- httpd -p 81 -h /www 2>/dev/null || :
	refused 8081
	eventually up
	eventually quiet
}

case $step in
make)
	cuib network acl create web
	cuib network acl rule add web ingress action=allow protocol=tcp destination_port=80
	cuib network acl rule add web egress action=allow
	cuib network zone create lab.example.org
	cuib network zone record create lab.example.org www
	cuib network zone record entry add lab.example.org www A 192.0.2.80
	cuib network create br0 ipv4.address=10.88.0.1/24 ipv6.address=none dns.zone.forward=lab.example.org ipv4.dhcp.expiry=2m security.acls=web
	cuib network create vx0 --type vxlan ipv4.address=10.88.1.1/24 ipv6.address=none vxlan.peers=192.0.2.9 vxlan.local=192.0.2.1 vxlan.key=0123456789abcdef vxlan.encryption=none
	cuib network create mac0 --type macvlan parent=wire
	cuib network forward create br0 192.0.2.1
	cuib network forward port add br0 192.0.2.1 tcp 8080 10.88.0.9 80
	cuib network forward port add br0 192.0.2.1 tcp 8081 10.88.0.9 81
	cuib network load-balancer create br0 192.0.2.1 healthcheck=true healthcheck.interval=1 healthcheck.failure_count=1 healthcheck.success_count=1
	cuib network load-balancer backend add br0 192.0.2.1 a 10.88.0.9 80
	cuib network load-balancer backend add br0 192.0.2.1 none 10.88.0.8 80
	cuib network load-balancer port add br0 192.0.2.1 tcp 9090 a,none
	cuib init tiny c1 -n br0 -c boot.autostart=true
	cuib config device set c1 eth0 ipv4.address=10.88.0.9
	cuib config device add c1 eth1 nic network=vx0 name=eth1
	cuib config device add c1 eth2 nic network=mac0 name=eth2
	cuib start c1
	cuib exec c1 -- sh -c 'ip link set eth1 up; udhcpc -i eth1 -n -q' || :
	whole
	cuib admin shutdown
	wait
	eventually umount -R /cuib
	;;
cut)
	cuib exec c1 -- sh -c 'ip link set eth1 up; udhcpc -i eth1 -n -q' || eventually cuib exec c1 -- udhcpc -i eth1 -n -q
	whole
	# What is answered is there after a power cut a moment later.
	cuib network forward port add br0 192.0.2.1 tcp 8088 10.88.0.9 80
	echo "LAB-RC 0"
	echo o >/proc/sysrq-trigger
	sleep 60
	;;
look)
	eventually cuib exec c1 -- sh -c 'ip link set eth1 up; udhcpc -i eth1 -n -q'
	whole
	eventually fetches 8088
	# An hour passes while nobody runs.
	pids="$(pidof cuibd) $(pidof dnsmasq) $(pgrep -f cuib-shim | xargs)"
	kill -STOP $pids
	date -s "@$(($(date +%s) + 3600))" >/dev/null
	kill -CONT $pids
	eventually cuib exec c1 -- udhcpc -i eth1 -n -q
	whole
	# Somebody takes interfaces away, and renames them.
	ip link del "$(ip -o link show type vxlan | sed 's/^[0-9]*: \([^:@]*\).*/\1/')"
	ip link set br0 down
	ip link set br0 name other
	eventually ip link show br0
	eventually ip -o link show type vxlan up
	ip link del br0
	ip link del vx0
	whole
	;;
esac
