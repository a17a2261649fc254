#!/bin/bash
# build.sh builds everything for each platform without cgo, and puts the programs of
# cmd/ into build/OS-ARCH. With -vet it type-checks the tests for other systems than Linux, which
# make test has vetted.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
export CGO_ENABLED=0
for platform in linux/amd64 linux/arm64 windows/amd64 darwin/arm64; do
  export GOOS=${platform%/*} GOARCH=${platform#*/}
  go build ./...
  programs=$(go list -f '{{if eq .Name "main"}}{{.ImportPath}}{{end}}' ./cmd/... 2>/dev/null || true)
  [ -z "$programs" ] || { mkdir -p "build/$GOOS-$GOARCH"; go build -trimpath -ldflags='-s -w' -o "build/$GOOS-$GOARCH/" $programs; }
  if [ "${1:-}" = -vet ] && [ "$GOOS" != linux ]; then go vet ./...; fi
  echo "ok  	$platform"
done
