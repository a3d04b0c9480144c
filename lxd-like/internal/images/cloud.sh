#!/bin/sh
# Sets cloud-init up in the root $1: it gets what to do from the host, by the
# socket of the guest API or, in images with templates for that, by files.
set -eu
cat >"$1/etc/cloud/cloud.cfg.d/95_container.cfg" <<'END'
datasource_list: [ LXD, NoCloud, None ]
locale: C.UTF-8
END
