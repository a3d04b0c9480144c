#!/bin/sh
# The daemon is killed before each change that it makes to pools of OpenZFS.
. ./zfs-suite
tests.test -test.timeout 50m -test.v -test.run "${1:-^TestCrashMatrixZFS$}"
