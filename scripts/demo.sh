#!/bin/bash
# demo.sh is make demo: gmsa demo by a program that is built from this tree. It needs Go and
# nothing else. Its arguments go to gmsa demo.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
mkdir -p build
echo "building gmsa"
CGO_ENABLED=0 go build -o build/gmsa ./cmd/gmsa
exec build/gmsa demo "$@"
