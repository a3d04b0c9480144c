#!/bin/sh
# What a driver promises, on OpenZFS.
. ./zfs-suite
zfs.test -test.run '^TestDriver$'
