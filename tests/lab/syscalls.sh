#!/bin/sh
# System calls that are intercepted, on cgroup v2, where devices are denied by
# a program and not by a list.
. ./suite
/lab/runtime.test -test.run '^Test(Intercept(Mount|Mknod|Sysinfo|BPF)|BPFToken)$'
