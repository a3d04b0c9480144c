# To be sourced: where Go is, and what it needs.
PATH=/usr/local/go/bin:$PATH:/usr/lib/go-1.23/bin:/usr/sbin:/sbin
export PATH
export CGO_LDFLAGS_ALLOW='-Wl,-z,now'
export GOTOOLCHAIN="${GOTOOLCHAIN:-auto}"
