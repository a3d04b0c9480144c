# build      bin/cuibd, bin/cuib and bin/cuib-shim
# check      lint, formatting and tidiness
# test       all tests; needs root, and what scripts/deps test installs
# bench      measure the budgets, and print a table
# gen        what is generated: docs of keys and commands
# install    into $(DESTDIR)$(PREFIX)

PREFIX  ?= /usr/local
VERSION ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION)

# Without HTTP/2, which nothing here speaks that does not speak HTTP/1 too.
TAGS := nethttpomithttp2

# The version is told by LDFLAGS. Go would refuse a checkout that is another user's.
export GOFLAGS := -buildvcs=false $(GOFLAGS)

# Where Go is, and what it needs.
ENV := . scripts/env.sh;

.PHONY: build check test bench gen install clean
build: bin/cuib-shim
	$(ENV) go build -tags '$(TAGS)' -trimpath -ldflags '$(LDFLAGS)' -o bin/cuibd ./lxd-like/cuibd
	$(ENV) CGO_ENABLED=0 go build -tags '$(TAGS)' -trimpath -ldflags '$(LDFLAGS)' -o bin/cuib ./client/cmd/cuib

bin/cuib-shim: $(wildcard lxd-like/cuib-shim/*.[ch])
	mkdir -p bin
	gcc -std=gnu11 -O2 -g -Wall -Wextra -Werror -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE -pie -Wl,-z,relro,-z,now \
		-Wl,--export-dynamic-symbol=seccomp_load,--export-dynamic-symbol=execvp \
		-o $@ $(filter %.c,$^) -ldl

check:
	scripts/lint

test: build
	scripts/gotest

bench: build
	$(ENV) go run ./tests/bench

gen:
	scripts/gen

install: build
	install -D -m 0755 bin/cuibd $(DESTDIR)$(PREFIX)/sbin/cuibd
	install -D -m 0755 bin/cuib $(DESTDIR)$(PREFIX)/bin/cuib
	install -D -m 0755 bin/cuib-shim $(DESTDIR)$(PREFIX)/lib/cuib/cuib-shim
	for unit in scripts/systemd/*; do \
		sed 's|/usr/local|$(PREFIX)|g' "$$unit" | install -D -m 0644 /dev/stdin $(DESTDIR)$(PREFIX)/lib/systemd/system/"$${unit##*/}" || exit 1; \
	done
	install -D -m 0644 scripts/firewalld/cuib.xml $(DESTDIR)/usr/lib/firewalld/zones/cuib.xml

clean:
	rm -rf bin
