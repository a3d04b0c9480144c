#!/bin/sh
# Processes that are killed while they receive, and each step of what is done
# with datasets of guests fails, on OpenZFS.
. ./zfs-suite
zfs.test -test.timeout 30m -test.run '^Test(FaultsDelegated|KillStreams)$'
