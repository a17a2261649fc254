#!/bin/bash
# samba-dc.sh provision|seed|conf|run|start|stop|restart|status|env|destroy|ns CMD...
#
# A private Samba AD DC (gMSA capable, functional level 2016) below $DC_DIR, on one
# loopback address. Package lab runs it (provision, seed, run) for the tests; the
# other verbs are for a person who wants a domain to try something by hand:
#
#   DC_DIR=~/dc samba-dc.sh start && eval "$(DC_DIR=~/dc samba-dc.sh env)"
#
# Ports below 1024 need root. `samba-dc.sh ns CMD...` runs CMD as root of a private
# user and network namespace, which needs no privilege where the kernel allows it.
set -eu
SELF=$(readlink -f "$0")
: "${DC_DIR:=${TMPDIR:-/tmp}/opengmsa-dc}"      # everything is below this directory
: "${DC_IP:=127.0.0.10}"                        # the address that the DC answers on
: "${DC_IP6:=}"                                 # and a second one, for IPv6
: "${DC_REALM:=CONTOSO.COM}" "${DC_DOMAIN:=CONTOSO}" "${DC_HOST:=dc1}"
: "${DC_ADMIN_PASS:=Passw0rd!Admin}"
# The identifiers of Microsoft's example credential spec, which so fits the domain.
: "${DC_SID:=S-1-5-21-702590844-1001920913-2680819671}" "${DC_GUID:=56d9b66c-d746-4f87-bd26-26760cfdca2e}"
: "${DC_SERVICES:=ldap cldap kdc rpc dns ntp_signd}"   # add `winbindd s3fs` to serve SMB
: "${DC_RPC_SERVERS:=-winreg, -srvsvc}"         # dcerpc endpoint servers, relative to Samba's default
: "${DC_LDAP_STRONG:=yes}"                      # ldap server require strong auth
: "${DC_CONF:=}"                                # more lines for [global]
: "${DC_START_TIMEOUT:=60}"                     # seconds
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
DNSDOM=$(printf %s "$DC_REALM" | tr A-Z a-z)
CONF=$DC_DIR/etc/smb.conf
PIDF=$DC_DIR/run/samba.pid
WINBINDD_DIR=$DC_DIR/winbindd
case " $DC_SERVICES " in *" s3fs "*) WINBINDD_DIR=/run/samba/winbindd;; esac # see run
export DC_DIR DC_IP DC_IP6 DC_REALM DC_DOMAIN DC_HOST DC_ADMIN_PASS DC_SERVICES DC_RPC_SERVERS DC_LDAP_STRONG DC_CONF

# Samba overwrites its command line, so the program is recognised by its executable.
running() { [ -s "$PIDF" ] && kill -0 "$(cat "$PIDF")" 2>/dev/null && [ "$(basename "$(readlink "/proc/$(cat "$PIDF")/exe")")" = samba ]; }

write_conf() {
  mkdir -p "$DC_DIR"/{etc,run,log,cache,private,state,ncalrpc,winbindd,ntp_signd,tls}
  chmod 750 "$DC_DIR/ntp_signd" # Samba insists
  cat >"$CONF" <<C
[global]
	workgroup = $DC_DOMAIN
	realm = $DC_REALM
	netbios name = $(printf %s "$DC_HOST" | tr a-z A-Z)
	server role = active directory domain controller
	ad dc functional level = 2016
	interfaces = $DC_IP/8${DC_IP6:+ $DC_IP6/128}
	bind interfaces only = yes
	server services = $(printf %s "$DC_SERVICES" | sed 's/ /, /g')
	dcerpc endpoint servers = $DC_RPC_SERVERS
	disable netbios = yes
	private dir = $DC_DIR/private
	state directory = $DC_DIR/state
	cache directory = $DC_DIR/cache
	lock directory = $DC_DIR
	binddns dir = $DC_DIR/bind-dns
	pid directory = $DC_DIR/run
	ncalrpc dir = $DC_DIR/ncalrpc
	winbindd socket directory = $WINBINDD_DIR
	ntp signd socket directory = $DC_DIR/ntp_signd
	log file = $DC_DIR/log/log.%m
	logging = file
	log level = ${DC_LOGLEVEL:-1}
	ldb:nosync = true
	load printers = no
	dns update command = /bin/true
	spn update command = /bin/true
	gpo update command = /bin/true
	samba kcc command = /bin/true
	dns forwarder = 0.0.0.0
	tls enabled = yes
	tls cafile = $DC_DIR/tls/ca.pem
	tls certfile = $DC_DIR/tls/cert.pem
	tls keyfile = $DC_DIR/tls/key.pem
	ldap server require strong auth = $DC_LDAP_STRONG
	kdc enable fast = yes
$DC_CONF
[sysvol]
	path = $DC_DIR/state/sysvol
	read only = no
[netlogon]
	path = $DC_DIR/state/sysvol/$DNSDOM/scripts
	read only = no
C
  cat >"$DC_DIR/krb5.conf" <<C
[libdefaults]
	default_realm = $DC_REALM
	dns_lookup_realm = false
	dns_lookup_kdc = false
	rdns = false
	dns_canonicalize_hostname = false
	udp_preference_limit = 1
[realms]
	$DC_REALM = {
		kdc = $DC_IP
		kpasswd_server = $DC_IP
		admin_server = $DC_IP
	}
[domain_realm]
	.$DNSDOM = $DC_REALM
	$DNSDOM = $DC_REALM
C
  printf '127.0.0.1 localhost\n%s %s.%s %s\n' "$DC_IP" "$DC_HOST" "$DNSDOM" "$DC_HOST" >"$DC_DIR/hosts"
}

# Samba's own certificate has no subjectAltName and Go's crypto/tls refuses it. The CA
# is made once; the certificate again whenever the domain has moved to another address.
mkcert() {
  local d=$DC_DIR/tls; mkdir -p "$d"
  [ -e "$d/ca.key" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=$DC_REALM test CA" \
    -addext basicConstraints=critical,CA:TRUE -keyout "$d/ca.key" -out "$d/ca.pem" 2>/dev/null
  [ "$(cat "$d/address" 2>/dev/null)" != "$DC_IP $DC_IP6" ] || return 0
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$DC_HOST.$DNSDOM" -keyout "$d/key.pem" -out "$d/req.pem" 2>/dev/null
  printf 'subjectAltName=DNS:%s.%s,DNS:%s,IP:%s%s\nextendedKeyUsage=serverAuth\n' "$DC_HOST" "$DNSDOM" "$DNSDOM" "$DC_IP" "${DC_IP6:+,IP:$DC_IP6}" >"$d/ext"
  openssl x509 -req -in "$d/req.pem" -CA "$d/ca.pem" -CAkey "$d/ca.key" -CAcreateserial -days 3650 -extfile "$d/ext" -out "$d/cert.pem" 2>/dev/null
  chmod 600 "$d/key.pem" "$d/ca.key"
  printf '%s %s' "$DC_IP" "$DC_IP6" >"$d/address"
}

provision() {
  if [ -e "$DC_DIR/.provisioned" ]; then echo "already provisioned: $DC_DIR"; return 0; fi
  mkdir -p "$DC_DIR"; rm -rf "${DC_DIR:?}"/*
  local t0; t0=$(date +%s%3N)
  # Setting SYSVOL's access control lists is what needs real root: left out unless SMB is to be served.
  /usr/bin/python3 -c 'import sys, samba.provision as p; p.setsysvolacl = lambda *a, **k: None
from samba.netcmd.main import samba_tool; sys.exit(samba_tool(*sys.argv[1:]))' domain provision -q --realm="$DC_REALM" --domain="$DC_DOMAIN" \
    --host-name="$DC_HOST" --host-ip="$DC_IP" --adminpass="$DC_ADMIN_PASS" --server-role=dc \
    --function-level=2016 --option="ad dc functional level = 2016" --dns-backend=SAMBA_INTERNAL \
    --domain-sid="$DC_SID" --domain-guid="$DC_GUID" \
    --targetdir="$DC_DIR" --option="interfaces=$DC_IP/8" --option="bind interfaces only=yes" --option="ldb:nosync=true" \
    >"$DC_DIR.provision.log" 2>&1 || { tail -n 20 "$DC_DIR.provision.log"; return 1; }
  rm -f "$DC_DIR.provision.log"
  write_conf; mkcert
  samba_spnupdate --configfile="$CONF"   # ldap/ and GC/ names of the DC: GSSAPI to ldap/dc1.contoso.com needs them
  touch "$DC_DIR/.provisioned"
  echo "provisioned in $(( $(date +%s%3N) - t0 )) ms"
}

# LDAP, KDC, kpasswd and LDAPS accept connections.
ready() {
  local p; for p in 389 88 464 636; do (exec 3<>"/dev/tcp/$DC_IP/$p") 2>/dev/null || return 1; done
}

# In the foreground, for a caller that owns the process.
run() {
  [ -e "$DC_DIR/.provisioned" ] || provision
  write_conf; mkcert; rm -f "$PIDF"
  export KRB5_CONFIG=$DC_DIR/krb5.conf
  [ -z "${DC_PRELOAD:-}" ] || export LD_PRELOAD=$DC_PRELOAD   # for samba alone: this shell keeps the machine's clock
  set -- samba -i -M "${DC_MODEL:-single}" --debug-stdout --configfile="$CONF"
  # smbd asks winbindd for Unix ids by a socket whose path is compiled in: a private
  # /run keeps it from the machine's own Samba and from other controllers.
  case " $DC_SERVICES " in *" s3fs "*)
    mkdir -p "$DC_DIR/sysrun/samba"
    set -- unshare -m sh -c 'mount --bind "$0" /run && exec "$@"' "$DC_DIR/sysrun" "$@";;
  esac
  exec "$@" </dev/null
}

start() {
  if running; then echo "already running, pid $(cat "$PIDF")"; return 0; fi
  [ -e "$DC_DIR/.provisioned" ] || provision
  mkdir -p "$DC_DIR/log"
  local t0 n=0 pid; t0=$(date +%s%3N)
  setsid "$SELF" run >"$DC_DIR/log/stdout" 2>&1 &
  pid=$!
  until ready; do
    n=$((n+1)); [ $n -lt $((DC_START_TIMEOUT*20)) ] || { echo "no answer in $DC_START_TIMEOUT s"; tail -n 20 "$DC_DIR/log/stdout"; return 1; }
    kill -0 "$pid" 2>/dev/null || { echo "samba ended"; tail -n 20 "$DC_DIR/log/stdout"; return 1; }
    sleep 0.05
  done
  [ -s "$PIDF" ] || echo "$pid" >"$PIDF"
  echo "ready in $(( $(date +%s%3N) - t0 )) ms, pid $(cat "$PIDF")"
}

stop() {
  running || { echo "not running"; return 0; }
  local p g n=0; p=$(cat "$PIDF"); g=$(ps -o pgid= -p "$p" | tr -d ' ')
  kill -TERM "$p"
  while kill -0 "$p" 2>/dev/null; do n=$((n+1)); [ $n -lt 100 ] || { kill -KILL -- "-$g"; break; }; sleep 0.05; done
  rm -f "$PIDF"; echo stopped
}

# Hosts, a group, gMSAs, an sMSA and a root key usable since 2001, straight into sam.ldb
# (whether or not samba runs). May be run again.
seed() {
  [ -e "$DC_DIR/.provisioned" ] || provision
  /usr/bin/python3 - "$CONF" "$DC_DIR/private/sam.ldb" <<'PY'
import sys, ldb, datetime
from samba.samdb import SamDB
from samba.param import LoadParm
from samba.auth import system_session
from samba.dcerpc import security
from samba.ndr import ndr_pack
from samba.nt_time import nt_time_from_datetime
lp = LoadParm(); lp.load(sys.argv[1])
db = SamDB(sys.argv[2], session_info=system_session(lp), lp=lp)
base = str(db.domain_dn()); dns = lp.get('realm').lower()
now = nt_time_from_datetime(datetime.datetime.now(datetime.timezone.utc))

def add(m):
    try: db.add(m); return True
    except ldb.LdbError as e:
        if e.args[0] == ldb.ERR_ENTRY_ALREADY_EXISTS: return False
        raise

def sid(sam):
    return db.schema_format_value('objectSid', db.search(base, expression=f'(sAMAccountName={sam})', attrs=['objectSid'])[0]['objectSid'][0]).decode()

# An old root key, so that accounts can be made (or aged) at any time since 2001.
rk = 'CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,' + str(db.get_config_basedn())
old = nt_time_from_datetime(datetime.datetime(2001, 1, 1, tzinfo=datetime.timezone.utc))
if not [k for k in db.search(rk, scope=ldb.SCOPE_ONELEVEL, attrs=['msKds-UseStartTime']) if int(k['msKds-UseStartTime'][0]) == old]:
    db.new_gkdi_root_key(now, old)

for n in ('web1', 'web2', 'evil1'):
    if add({'dn': f'CN={n},CN=Computers,{base}', 'objectClass': 'computer', 'sAMAccountName': n + '$', 'userAccountControl': '4096',
            'dNSHostName': f'{n}.{dns}', 'servicePrincipalName': [f'HOST/{n}.{dns}', f'HOST/{n}'], 'msDS-SupportedEncryptionTypes': '28'}):
        db.setpassword(f'(sAMAccountName={n}$)', f'Comp-{n}-Pass!', force_change_at_next_login=False)
add({'dn': f'CN=WebHosts,CN=Users,{base}', 'objectClass': 'group', 'sAMAccountName': 'WebHosts', 'member': f'CN=web1,CN=Computers,{base}'})

def gmsa(name, sddl, interval, when=None, **kw):
    if when is not None: db.set_opaque('dsdb_gmsa_time_opaque', when)
    m = {'dn': f'CN={name},CN=Managed Service Accounts,{base}', 'objectClass': 'msDS-GroupManagedServiceAccount', 'sAMAccountName': name + '$',
         'dNSHostName': f'{name}.{dns}', 'userAccountControl': '4096', 'msDS-ManagedPasswordInterval': str(interval), 'msDS-SupportedEncryptionTypes': '28',
         'msDS-GroupMSAMembership': ndr_pack(security.descriptor.from_sddl(sddl, security.dom_sid(db.get_domain_sid())))}
    m.update(kw); add(m); db.set_opaque('dsdb_gmsa_time_opaque', None)

grp = sid('WebHosts'); w2 = sid('web2$')
gmsa('webapp01', f'O:SYD:(A;;RP;;;{grp})(A;;RP;;;{w2})', 30, servicePrincipalName=[f'http/webapp01.{dns}', 'http/webapp01'])
gmsa('webapp02', f'O:SYD:(A;;RP;;;{grp})', 1)
gmsa('aged01', f'O:SYD:(A;;RP;;;{grp})', 1, when=now - 20*3600*10**7)   # made one interval ago: rolls over at its first use
add({'dn': f'CN=smsa01,CN=Managed Service Accounts,{base}', 'objectClass': 'msDS-ManagedServiceAccount', 'sAMAccountName': 'smsa01$', 'userAccountControl': '4096'})
PY
}

case "${1:-}" in
  seed) seed;;
  provision) provision;;
  conf) write_conf;;
  run) run;;
  start) start;;
  stop) stop;;
  restart) stop; start;;
  status) if running; then echo "running, pid $(cat "$PIDF")"; else echo "not running"; exit 1; fi;;
  destroy) stop; rm -rf "$DC_DIR" "$DC_DIR.provision.log";;
  env) echo "export KRB5_CONFIG=$DC_DIR/krb5.conf LDAPTLS_CACERT=$DC_DIR/tls/ca.pem DC_CONF_FILE=$CONF DC_IP=$DC_IP";;
  ns) shift; exec unshare -Urnm --kill-child -pf --mount-proc bash -c 'ip link set lo up; exec "$@"' ns "$@";;
  *) sed -n '2,11s/^# \{0,1\}//p' "$SELF"; exit 2;;
esac
