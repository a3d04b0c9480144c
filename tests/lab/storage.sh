#!/bin/sh
# What drivers promise, where the file system has project quotas.
. ./suite
for driver in overlay dir; do
	"/lab/$driver.test" -test.run '^TestDriverWithQuotas$/^ext4$'
done
