#!/bin/sh
# After the files are there: $1 is "configure" (deb, $2 the version before) or the number
# of installed versions (rpm). Nothing is enabled: an agent without a domain, or a
# controller without data, is of no use. What runs already is restarted; leases outlive that.
set -e
systemd-sysusers gmsa.conf
systemd-tmpfiles --create gmsa.conf
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
case $1 in
  configure) [ -z "$2" ] || systemctl try-restart gmsa-agent.service gmsa-dc.service ;;
  1) ;;
  *) systemctl try-restart gmsa-agent.service gmsa-dc.service ;;
esac
