#!/bin/sh
# Limits on cgroup v2: what is set is what the kernel has, also live.
set -eu
mkfs.ext4 -q -E lazy_itable_init=1 /dev/ubda
DISK_OPTS=-onoatime DISK=/dev/ubda
. ./lib
cuib launch tiny c1 -c limits.memory=64MiB -c limits.processes=30 -c limits.cpu.allowance=20ms/100ms
g=$(group c1)
want memory "$(cat "$g/memory.max")" 67108864
want processes "$(cat "$g/pids.max")" 30
want cpu "$(cat "$g/cpu.max")" "20000 100000"
cuib config set c1 limits.memory=128MiB limits.processes=60 limits.memory.swap=false
want "memory, live" "$(cat "$g/memory.max")" 134217728
want "processes, live" "$(cat "$g/pids.max")" 60
want "swap, live" "$(cat "$g/memory.swap.max")" 0
cuib config set c1 limits.cpu=0-0 limits.cpu.allowance=50%
want "cpus, live" "$(cat "$g/cpuset.cpus")" 0
want "quota, taken back" "$(cat "$g/cpu.max")" "max 100000"
cuib config unset c1 limits.memory
want "memory, unset" "$(cat "$g/memory.max")" max
cuib config set c1 limits.memory.high=96MiB limits.memory=120MiB limits.memory.swap=64MiB
want "memory, high" "$(cat "$g/memory.high")" 100663296
want "swap, a size" "$(cat "$g/memory.swap.max")" 67108864
cuib config set c1 limits.memory.enforce=soft
want "memory, soft" "$(cat "$g/memory.max") $(cat "$g/memory.low")" "max 125829120"
cuib config set c1 limits.memory.enforce= limits.cpu.priority=4 limits.disk.priority=10
want "cpu, priority" "$(cat "$g/cpu.weight")" 44
want "disk, priority" "$(cat "$g/io.weight")" "default 200"
cuib config set c1 limits.io.weight=5000
want "io, weight" "$(cat "$g/io.weight")" "default 5000"
refused() {
	! cuib config set c1 "$1" 2>/tmp/err && grep -q "$2" /tmp/err || { echo "$1: got '$(cat /tmp/err)', want '$2'"; exit 1; }
}
refused limits.memory.swap.priority=3 "cgroup v2 has no such preference"
refused limits.io.latency=10ms CONFIG_BLK_CGROUP_IOLATENCY
refused limits.hugepages.2MB=2MiB hugetlb
refused limits.cpu.nodes=0 "no NUMA nodes"
cuib config set c1 limits.kernel.nofile=5000:6000 limits.memory.oom_priority=-100
want "open files" "$(cuib exec c1 -- sh -c 'ulimit -Sn; ulimit -Hn')" "5000
6000"
want "oom" "$(cuib exec c1 -- cat /proc/1/oom_score_adj)" -100
cuib config set c1 limits.kernel.nofile=7000 limits.memory.oom_priority=-500
want "open files of init" "$(sed -n 's/^Max open files *\([0-9]*\) *\([0-9]*\) .*/\1 \2/p' "/proc/$(cuib info c1 | sed -n 's/^PID: *//p')/limits")" "7000 7000"
want "oom, live" "$(cuib exec c1 -- cat /proc/self/oom_score_adj)" -500
cuib info c1 | grep -q "^  io: some " || { echo "no pressure"; exit 1; }
mkdir /cuib/data
cuib config device add c1 data disk source=/cuib/data path=/data limits.read=2MiB limits.write=3MiB,100iops
dev=$(cat /sys/block/ubda/dev)
want "disk" "$(cat "$g/io.max")" "$dev rbps=2097152 wbps=3145728 riops=max wiops=100"
cuib config device set c1 data limits.write=
want "disk, live" "$(cat "$g/io.max")" "$dev rbps=2097152 wbps=max riops=max wiops=max"
cuib config device remove c1 data
want "disk, gone" "$(cat "$g/io.max")" ""
for _ in $(seq 900); do # lxcfs may have come after the guest.
	seen=$(cuib exec c1 -- sed -n 's/^MemTotal: *//p' /proc/meminfo)
	[ "$seen" = "122880 kB" ] && break
	sleep 0.1
done
want "seen inside" "$seen" "122880 kB"
cuib config unset c1 limits.memory
cuib pause c1
want frozen "$(sed -n 's/^frozen //p' "$g/cgroup.events")" 1
cuib resume c1
want "seen inside" "$(cuib exec c1 -- id -u)" 0
cuib delete --force c1
[ ! -e "$g" ] || { echo "cgroup $g is left over"; exit 1; }
