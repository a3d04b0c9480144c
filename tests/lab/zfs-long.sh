#!/bin/sh
# What takes long on OpenZFS: processes that are killed while they receive, each
# step of what is done with datasets of guests, and the driver measured against
# the programs.
. ./zfs-suite
zfs.test -test.timeout 50m -test.v -test.run '^Test(FaultsDelegated|KillStreams)$' -test.bench . -test.benchtime 1x
