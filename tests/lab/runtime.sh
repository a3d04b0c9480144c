#!/bin/sh
# Those of the runtime's tests that cgroup v2 and AppArmor make a difference
# to. Real systems are in debian.sh.
. ./suite
/lab/runtime.test -test.run '^Test(Limits|LimitsBelowUse|EachLimit|HogsStayInside|SetRlimits|SetOOMScore|Pressure|Freeze|StartExecKill|GuestReboots|Recover|RecoverEnded|Nodes|DevicesAreDenied|LXCFS|SystemCallsAreDenied|ExecIsConfinedAsInit|Mounts|HostNetwork|HostNetworkStrangeFiles)$'
