"""A GSS-API peer made of MIT Kerberos: reads one JSON request a line, writes one JSON answer a line.

usage: peer.py initiate|accept krb5|spnego NAME FLAGS BINDINGS

NAME is the acceptor's principal, FLAGS the number of the requested flags, BINDINGS the
hexadecimal application data of the channel bindings or "none".
"""
import base64
import json
import sys

import gssapi
import gssapi.raw

role, mech, name, flags, bindings = sys.argv[1:6]
oid = {
    "krb5": gssapi.OID.from_int_seq("1.2.840.113554.1.2.2"),
    "spnego": gssapi.OID.from_int_seq("1.3.6.1.5.5.2"),
}[mech]
binding = None
if bindings != "none":
    binding = gssapi.raw.ChannelBindings(application_data=bytes.fromhex(bindings))

if role == "initiate":
    ctx = gssapi.SecurityContext(
        name=gssapi.Name(name, gssapi.NameType.kerberos_principal),
        mech=oid, flags=int(flags), usage="initiate", channel_bindings=binding)
else:
    creds = gssapi.Credentials(usage="accept")
    ctx = gssapi.SecurityContext(creds=creds, usage="accept", channel_bindings=binding)


def handle(request):
    op = request["op"]
    data = base64.b64decode(request.get("data") or "")
    if op == "step":
        try:
            out = ctx.step(data or None)
        except gssapi.exceptions.GSSError as e:
            return {"error": str(e), "data": encode(e.token)}
        return {"data": encode(out), "complete": ctx.complete}
    if op == "wrap":
        return {"data": encode(ctx.wrap(data, bool(request.get("conf"))).message)}
    if op == "unwrap":
        r = ctx.unwrap(data)
        return {"data": encode(r.message), "conf": r.encrypted}
    if op == "sign":
        return {"data": encode(ctx.get_signature(data))}
    if op == "verify":
        ctx.verify_signature(data, base64.b64decode(request["token"]))
        return {}
    if op == "names":
        return {"initiator": str(ctx.initiator_name), "acceptor": str(ctx.target_name),
                "flags": int(ctx.actual_flags)}
    raise ValueError(op)


def encode(b):
    return base64.b64encode(b or b"").decode()


for line in sys.stdin:
    try:
        answer = handle(json.loads(line))
    except gssapi.exceptions.GSSError as e:
        answer = {"error": str(e)}
    print(json.dumps(answer), flush=True)
