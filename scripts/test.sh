#!/bin/bash
# test.sh is make test: set-up, formatting, vet, all tests. Its arguments go to testreport.
set -eu -o pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
. scripts/stages.sh

format() {
  local bad
  bad=$(git ls-files -co --exclude-standard '*.go' | xargs -r ls -d 2>/dev/null | xargs -r gofmt -l)
  [ -z "$bad" ] || { echo "not formatted (hint: gofmt -w FILE):"; echo "$bad"; return 1; }
}

tests() {
  local race=()
  if [ "$(go env GOOS)" != windows ] && command -v "$(go env CC)" >/dev/null; then
    race=(-race)
  else
    echo "no C compiler: the race detector is off"
  fi
  CGO_ENABLED=${race:+1} go test -json -timeout 15m "${race[@]}" ./... | go run ./internal/lab/testreport "$@"
}

stage "set-up" scripts/setup.sh
stage "gofmt" format
stage "vet" go vet ./...
stage "test" tests "$@"
stages_end ok
