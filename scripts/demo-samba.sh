#!/bin/bash
# demo-samba.sh is make demo-samba: the set-up, then the journey as a program of its own.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin
if [ "$(id -u)" != 0 ]; then
  echo "the demonstration starts servers on ports below 1024; hint: sudo make demo-samba, or make demo, which needs no root"
  exit 1
fi
scripts/setup.sh
mkdir -p build
echo "building gmsa and the demonstration"
CGO_ENABLED=0 go build -o build/gmsa ./cmd/gmsa
go test -c -o build/demo ./internal/lab/demo
GMSA_DEMO=1 GMSA_NO_SKIP=1 GMSA_DEMO_PROGRAM=$PWD/build/gmsa build/demo -test.count=1 -test.timeout=5m
