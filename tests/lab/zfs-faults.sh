#!/bin/sh
# Each program of each change of several steps fails, or is the last.
. ./zfs-suite
zfs.test -test.timeout 30m -test.run '^TestFaults$'
