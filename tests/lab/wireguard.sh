#!/bin/sh
# What passes between the hosts of an overlay is encrypted by WireGuard.
set -eu
mount -t tmpfs tmpfs /tmp
export CUIB_TEST_KERNEL=1 CUIB_TEST_WIREGUARD=1
/lab/vxlan.test -test.v -test.run 'TestEncrypted$'
