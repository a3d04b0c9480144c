#!/bin/sh
# Limits on cgroup v2: what is set is what the kernel has, also live.
set -eu
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
cuib pause c1
want frozen "$(sed -n 's/^frozen //p' "$g/cgroup.events")" 1
cuib resume c1
want "seen inside" "$(cuib exec c1 -- id -u)" 0
cuib delete --force c1
[ ! -e "$g" ] || { echo "cgroup $g is left over"; exit 1; }
