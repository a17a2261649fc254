#!/bin/bash
# dc_journey.sh GMSA DIR: inside network and mount namespaces of its own, a controller on
# the standard ports is found by DNS alone, and the journey of the guides is made: host,
# gMSA, password, trust check. The password of Administrator is in DIR/password.
set -eu
gmsa=$1 dir=$2 address=10.99.0.1
ip link set lo up
ip addr add $address/32 dev lo
echo "nameserver $address" >"$dir/resolv.conf"
echo '127.0.0.1 localhost' >"$dir/hosts"
mount --bind "$dir/resolv.conf" /etc/resolv.conf
mount --bind "$dir/hosts" /etc/hosts
printf '[libdefaults]\n default_realm = CONTOSO.COM\n' >"$dir/krb5.conf"
export KRB5_CONFIG=$dir/krb5.conf KRB5CCNAME=$dir/ccache

"$gmsa" dc init --domain contoso.com --data "$dir/dc" --admin-password-file "$dir/password"
mkfifo "$dir/served"
"$gmsa" dc serve --data "$dir/dc" --listen $address >"$dir/served" &
controller=$!
exec 3<"$dir/served"
grep -m 1 '^ports: kerberos 88,' <&3

kinit Administrator <"$dir/password"
ldapsearch -Q -LLL -H ldap://dc1.contoso.com -b DC=contoso,DC=com -s base ms-DS-MachineAccountQuota
"$gmsa" computer join web9 --domain contoso.com --out "$dir/web9.keytab"
"$gmsa" account create webapp01 --domain contoso.com --dns webapp01.contoso.com --hosts web9
"$gmsa" account test webapp01 --domain contoso.com --keytab "$dir/web9.keytab"
"$gmsa" verify contoso.com --keytab "$dir/web9.keytab"
kill -TERM $controller
wait $controller
"$gmsa" dc audit --data "$dir/dc" --kind 'read managed password'
