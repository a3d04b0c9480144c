#!/bin/sh
# What takes long on OpenZFS: streams, pools of all kinds, each fault of each
# step; and the driver measured against the programs.
set -eu
lab-zfs
export PATH=/lab:$PATH CUIB_TEST_KERNEL=1 CUIB_TEST_ZFS=1
cd /tmp
zfs.test -test.timeout 30m -test.skip '^TestDriver$' -test.bench . -test.benchtime 1x
