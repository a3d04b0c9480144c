#!/bin/sh
# A part of zfs-matrix-long.sh.
. ./zfs-suite
tests.test -test.timeout 30m -test.v -test.run '^TestCrashMatrixZFSPart$'
