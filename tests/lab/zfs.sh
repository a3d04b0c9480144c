#!/bin/sh
# What a driver promises, on OpenZFS.
set -eu
lab-zfs
export PATH=/lab:$PATH CUIB_TEST_KERNEL=1 CUIB_TEST_ZFS=1
cd /tmp
zfs.test -test.run "^TestDriver$"
