#!/bin/sh
# Tells dpkg in the root $1 to leave out what a container has no use for. To
# give these as options would make mmdebstrap filter all packages that it
# unpacks itself, which takes longer than to remove the files in the end.
set -eu
cat >"$1/etc/dpkg/dpkg.cfg.d/98build" <<'END'
path-exclude=/usr/share/doc/*
path-include=/usr/share/doc/*/copyright
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
path-include=/usr/share/locale/locale.alias
END
