#!/bin/bash
# package.sh builds the packages for Debian and Red Hat into OUT or build/, for the platforms
# given or linux/amd64 and linux/arm64. VERSION is the version, by default that of the
# latest tag. nfpm comes from the module proxy once and is kept in .cache.
set -eu -o pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
nfpm_version=v2.43.0 # later versions need modules that the proxy does not serve
nfpm=$PWD/.cache/nfpm-$nfpm_version
if [ ! -x "$nfpm" ]; then
  echo "building nfpm $nfpm_version"
  mkdir -p .cache
  bin=$(mktemp -d .cache/bin.XXXXXX) # of this run alone: another one may be building it too
  GOBIN=$PWD/$bin GOFLAGS= CGO_ENABLED=0 go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@$nfpm_version"
  mv "$bin/nfpm" "$nfpm"
  rmdir "$bin"
fi

VERSION=${VERSION:-$(git describe --tags --match 'v*' 2>/dev/null || echo "v0.0.0-$(git rev-parse --short HEAD 2>/dev/null || echo devel)")}
# The same commit gives the same packages, byte for byte.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
out=${OUT:-build}
export VERSION SOURCE_DATE_EPOCH CGO_ENABLED=0

# Pages and completions are those of a program that runs here.
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
go build -o "$own/gmsa" ./cmd/gmsa

[ $# -gt 0 ] || set -- linux/amd64 linux/arm64
for platform; do
  export GOOS=${platform%/*} GOARCH=${platform#*/}
  export BUILD=$out/$GOOS-$GOARCH
  mkdir -p "$BUILD/man" "$BUILD/completion"
  go build -trimpath -ldflags='-s -w' -o "$BUILD/" ./cmd/gmsa ./cmd/gmsa-hook
  "$own/gmsa" man "$BUILD/man"
  gzip -9nf "$BUILD"/man/*.1
  "$own/gmsa" completion bash >"$BUILD/completion/gmsa"
  "$own/gmsa" completion zsh >"$BUILD/completion/_gmsa"
  "$own/gmsa" completion fish >"$BUILD/completion/gmsa.fish"
  for format in deb rpm; do "$nfpm" package --config packaging/nfpm.yaml --packager "$format" --target "$out"; done
done
