#!/bin/sh
# The driver measured against the programs of OpenZFS.
. ./zfs-suite
zfs.test -test.timeout 50m -test.v -test.run '^$' -test.bench . -test.benchtime 1x
