# The targets are thin: what they do is in scripts/.

SHELL := /bin/bash
export PATH := $(PATH):/usr/local/go/bin

.PHONY: help test test-quick demo demo-samba bench microbench fuzz lint build package generate clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 24

test: ## everything, against real peers; on Debian 12 or newer as root it installs them first
	@scripts/test.sh $(TEST_ARGS)

# Without cgo, the tests and the programs that some of them build share all they compile;
# make test vets.
test-quick: export CGO_ENABLED = 0
test-quick: ## what needs no peer, no root and no network; a minute, and what the build takes
	@set -o pipefail; GMSA_LAB_OFF=1 go test -short -vet=off -json ./... | go run ./internal/lab/testreport

demo: ## the whole story on this machine in seconds: no root, no network, nothing installed
	@scripts/demo.sh $(DEMO_ARGS)

demo-samba: ## the journey from a credential spec to a database session, on real servers
	@scripts/demo-samba.sh

bench: ## the figures of the benchmarks, side by side with the peers'
	@scripts/bench.sh $(BENCH_ARGS)

microbench: ## the benchmarks of the packages
	@scripts/bench.sh micro $(BENCH_ARGS)

fuzz: ## ten minutes for each fuzz target
	@scripts/fuzz.sh each 600

lint: ## golangci-lint with .golangci.yml
	@scripts/lint.sh

build: ## the programs for linux, windows and darwin into build/, without cgo
	@scripts/build.sh

package: ## .deb and .rpm for linux into build/
	@scripts/package.sh

generate: ## the generated files again (needs protoc)
	@go generate ./...

clean: ## removes build/ and .cache/
	@rm -rf build .cache
