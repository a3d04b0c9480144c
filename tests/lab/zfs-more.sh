#!/bin/sh
# Streams, pools of all kinds, options, copies, what depends on what, copies of
# what guests have, and processes that are killed, on OpenZFS.
. ./zfs-suite
zfs.test -test.skip '^Test(Driver|Faults|FaultsDelegated|KillStreams)$'
