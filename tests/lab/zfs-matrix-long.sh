#!/bin/sh
# The daemon is killed before each change that it makes to pools of OpenZFS.
set -eu
lab-zfs
export PATH=/lab:$PATH CUIB_TEST_KERNEL=1 CUIB_TEST_ZFS=1 CUIB_TEST_BUILT=/lab CUIB_TEST_CACHE=/lab
cd /tmp
tests.test -test.timeout 50m -test.v -test.run "${1:-^TestCrashMatrixZFS$}"
