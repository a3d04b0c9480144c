#!/bin/sh
# Streams, pools of all kinds, options, copies, what depends on what, datasets of
# guests, and processes that are killed, on OpenZFS.
. ./zfs-suite
zfs.test -test.skip '^Test(Driver|Faults|KillStreams)$'
