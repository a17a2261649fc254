#!/bin/bash
# lint.sh runs golangci-lint at the version below, built from the module proxy once
# and kept in .cache (about a minute and a half the first time).
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
version=v2.15.0
tool=$PWD/.cache/golangci-lint-$version
if [ ! -x "$tool" ]; then
  echo "building golangci-lint $version"
  GOBIN=$PWD/.cache/bin GOFLAGS= go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
  mv .cache/bin/golangci-lint "$tool"
fi
# Another run on the same machine is none of this one's business.
exec "$tool" run --allow-parallel-runners "$@" ./...
