#!/bin/sh
# What takes long on OpenZFS: processes that are killed while they receive; and
# the driver measured against the programs.
. ./zfs-suite
zfs.test -test.timeout 50m -test.v -test.run '^TestKillStreams$' -test.bench . -test.benchtime 1x
