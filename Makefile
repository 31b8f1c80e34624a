# Stack: build, run the example, test, measure. Every target installs what it needs on Debian (root).
SHELL := /bin/bash
.DELETE_ON_ERROR:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PREFIX  ?= /usr/local
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# stack-shim is the containers' parent and their init: static, small, with seccomp.
# stack needs no C.
SHIM_TAGS := seccomp osusergo netgo
LDFLAGS   := -s -w -X main.version=$(VERSION)

BUILD_DEBS := gcc libc6-dev libseccomp-dev pkg-config git ca-certificates
RUN_DEBS   := nftables iproute2 curl git
TEST_DEBS  := $(BUILD_DEBS) $(RUN_DEBS) gnupg openssh-client openssh-server nginx-light fcgiwrap docker-registry mmdebstrap skopeo crun busybox-static xz-utils e2fsprogs btrfs-progs python3 procps util-linux

.PHONY: all
all: bin/stack bin/stack-shim ## build bin/stack and bin/stack-shim

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z/-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z/-]+):.*## */  \1: /'

# go decides what is out of date
.PHONY: bin/stack bin/stack-shim
bin/stack:
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/stack
bin/stack-shim: debs-build
	CGO_ENABLED=1 go build -trimpath -tags '$(SHIM_TAGS)' -ldflags '$(LDFLAGS) -extldflags -static' -o $@ ./cmd/stack-shim

# debs-<set> installs the missing packages of a set; nothing is asked of apt when none is missing.
debs-build: DEBS = $(BUILD_DEBS)
debs-run:   DEBS = $(RUN_DEBS)
debs-test:  DEBS = $(TEST_DEBS)
.PHONY: debs-build debs-run debs-test
debs-build debs-run debs-test:
	@missing=; for p in $(DEBS); do \
	  [ "$$(dpkg-query -Wf '$${db:Status-Status}' $$p 2>/dev/null)" = installed ] || missing+=" $$p"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing$$missing"; export DEBIAN_FRONTEND=noninteractive; \
	  { apt-get update -q && apt-get install -qy --no-install-recommends $$missing; } >/tmp/stack-apt.$$$$ 2>&1 || \
	    { cat /tmp/stack-apt.$$$$; exit 1; }; rm -f /tmp/stack-apt.$$$$; fi

.PHONY: hello
hello: all debs-run ## build, bring examples/hello up and ask it for its page
	$(MAKE) -C examples/hello STACK=$(CURDIR)/bin/stack

.PHONY: test
test: debs-test lint unit e2e ## everything that CI runs

.PHONY: lint
lint: debs-build ## gofmt, vet, staticcheck and the rooms' import rules
	@unformatted=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  [ -z "$$unformatted" ] || { echo "gofmt these:"; echo "$$unformatted"; exit 1; }
	go vet -tags seccomp ./...
	go run $(STATICCHECK) -tags seccomp ./...
	go test ./e2e/rules

.PHONY: unit
unit: debs-test ## every package's own tests, with the race detector
	go test -race -tags seccomp -timeout 15m $$(go list ./... | grep -v '/e2e\(/\|$$\)')

.PHONY: e2e
e2e: all debs-test ## real containers, registries and servers
	go test -count=1 -timeout 20m -parallel 2 ./e2e/...

.PHONY: bench
bench: all debs-test ## side by side with a Docker engine and bare crun
	go run ./e2e/bench

.PHONY: install
install: all ## into PREFIX, with the systemd unit beside the others
	install -D -m 755 bin/stack $(DESTDIR)$(PREFIX)/bin/stack
	install -D -m 755 bin/stack-shim $(DESTDIR)$(PREFIX)/bin/stack-shim
	sed 's|/usr/local|$(PREFIX)|g' examples/systemd/stack.service | \
	  install -D -m 644 /dev/stdin $(DESTDIR)/etc/systemd/system/stack.service

.PHONY: clean
clean: ## remove what make built; containers and volumes stay
	rm -rf bin
	$(MAKE) -C examples/hello clean
