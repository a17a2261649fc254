#!/bin/bash
# bench.sh is make bench: the figures that the project has set itself, beside its
# peers' on this machine; arguments go to the program bench. "bench.sh micro" is make
# microbench: every benchmark of the packages that have some. Compare only figures of
# one run on one machine.
set -eu -o pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
if [ "${1:-}" = micro ]; then
  shift
  packages=$(git grep -lE '^func Benchmark' -- '*_test.go' | xargs -n 1 dirname | sort -u | sed 's|^|./|')
  exec go test -run '^$' -bench . -benchmem "$@" $packages
fi
scripts/setup.sh
program=$(mktemp -d)/bench
trap 'rm -rf "$(dirname "$program")"' EXIT
go build -o "$program" ./bench
BENCH_COMMAND="make bench${*:+ BENCH_ARGS=\"$*\"}" "$program" "$@"
