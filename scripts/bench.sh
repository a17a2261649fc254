#!/bin/bash
# bench.sh is make bench: every benchmark of the packages that have some. Compare only
# figures of one run on one machine.
set -eu -o pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
packages=$(git grep -lE '^func Benchmark' -- '*_test.go' | xargs -n 1 dirname | sort -u | sed 's|^|./|')
exec go test -run '^$' -bench . -benchmem "$@" $packages
