#!/bin/bash
# setup.sh prepares this machine for make test and make demo-samba: it checks Go and, on
# Debian 12 or newer as root, installs the peers that the tests run against. It says
# first what it will do. Elsewhere it installs nothing: tests without a peer skip.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/go/bin

want=$(sed -n 's/^go \([0-9.]*\).*/\1/p' go.mod)
hint="hint: unpack go$want or newer from https://go.dev/dl/ to /usr/local/go and add /usr/local/go/bin to PATH"
if ! command -v go >/dev/null; then
  echo "this needs Go $want, and there is none; $hint"
  exit 1
fi
have=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//; s/[^0-9.].*//')
if [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" != "$want" ]; then
  echo "this needs Go $want or newer, and $(command -v go) is go$have; $hint"
  exit 1
fi

ID= VERSION_ID=99 VERSION_CODENAME= # testing and sid have no VERSION_ID
[ ! -r /etc/os-release ] || . /etc/os-release
if [ "$ID" != debian ] || [ "${VERSION_ID%%.*}" -lt 12 ]; then
  echo "Go $have; not Debian 12 or newer: nothing is installed, tests without a peer are skipped"
  exit 0
fi

stable= backports=
while read -r line; do
  case $line in
    *'# '*backports*) backports+=" ${line%%#*}" ;;
    *) stable+=" ${line%%#*}" ;;
  esac
done < <(grep -v '^#' scripts/debian-packages)

missing() { # of the packages given, those that are not installed
  local p
  for p in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || printf ' %s' "$p"
  done
}

# Samba before 4.20 has no gMSAs: one from bookworm itself is replaced.
old_samba() { command -v samba >/dev/null && dpkg --compare-versions "$(dpkg-query -W -f '${Version}' samba)" lt 2:4.20; }

need_stable=$(missing $stable)
need_backports=$(missing $backports)
if old_samba; then need_backports=$backports; fi
if [ -z "$need_stable$need_backports" ]; then
  echo "Go $have; every peer is installed"
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  echo "Go $have; not root: nothing is installed, tests without a peer are skipped; missing:$need_stable$need_backports"
  exit 0
fi

echo "Go $have. This installs from Debian, in two or three minutes (about 265 MB to download, 1.2 GB on disk):"
echo "$need_stable$need_backports" | fold -s -w 100 | sed 's/^ */  /'
echo "Clients that exclude each other go into a Debian of their own, which the first test that needs it makes"
echo "in the lab's cache (140 MB more, two minutes, once; internal/lab/root-packages), and engines of"
echo "Debian 13 into another (130 MB, a minute; internal/lab/trixie-packages)."
echo "No daemon is started. The tests start their own, on addresses of 127.77.0.0/16."

export DEBIAN_FRONTEND=noninteractive
apt=(apt-get -q -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3)
target=()
if [ "$VERSION_CODENAME" = bookworm ]; then
  target=(-t bookworm-backports)
  if ! apt-cache policy | grep -q 'n=bookworm-backports'; then
    echo "adding bookworm-backports for Samba 4.22: /etc/apt/sources.list.d/bookworm-backports.sources"
    cat >/etc/apt/sources.list.d/bookworm-backports.sources <<'S'
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm-backports
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
S
  fi
fi

# invoke-rc.d asks this script before it starts a service.
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi

log=$(mktemp)
quietly() { "$@" </dev/null >"$log" 2>&1 || { cat "$log"; echo "setup: failed: $*"; exit 1; }; }
quietly "${apt[@]}" update
[ -z "$need_backports" ] || quietly "${apt[@]}" install -y --no-install-recommends "${target[@]}" $need_backports
[ -z "$need_stable" ] || quietly "${apt[@]}" install -y --no-install-recommends $need_stable
rm -f "$log"
