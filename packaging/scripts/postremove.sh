#!/bin/sh
# After the files are gone: $1 is "remove" or "purge" (deb) or 0 (rpm). Leases, cached
# identities and devices of containers go; a domain in /var/lib/gmsa/dc, configuration and
# logs stay: only who made them knows whether anybody needs them.
set -e
case $1 in remove | purge | 0) ;; *) exit 0 ;; esac
[ ! -d /run/systemd/system ] || systemctl daemon-reload
if mountpoint -q /run/gmsa/leases; then umount --lazy /run/gmsa/leases; fi
rm -rf /run/gmsa /var/lib/gmsa/agent /var/lib/gmsa/runtime
rm -f /etc/cdi/gmsa.dev-credentialspec.json
