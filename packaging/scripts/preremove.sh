#!/bin/sh
# Before the files go: $1 is "remove" (deb) or 0 (rpm) for good; anything else is the
# upgrade to another version, which changes nothing.
set -e
case $1 in remove | 0) ;; *) exit 0 ;; esac
# An engine whose configuration names programs that are gone would start nothing.
for record in /var/lib/gmsa/runtime/*.json; do
  [ -e "$record" ] || continue
  engine=${record##*/}
  gmsa runtime uninstall --yes "${engine%.json}" ||
    echo "gmsa: ${engine%.json} still names programs of this package in its configuration" >&2
done
if [ -d /run/systemd/system ]; then
  systemctl disable --now gmsa-agent.service gmsa-dc.service
fi
