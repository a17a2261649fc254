"""Copies a credential cache with libkrb5, adds and changes a setting and removes the first ticket.

usage: mit.py FROM TO
"""
import ctypes
import sys

krb5 = ctypes.CDLL("libkrb5.so.3")


class Data(ctypes.Structure):
    _fields_ = [("magic", ctypes.c_int32), ("length", ctypes.c_uint), ("data", ctypes.c_char_p)]


ctx = ctypes.c_void_p()


def check(name, code):
    if code:
        sys.exit("%s: %d" % (name, code))


def resolve(path):
    cache = ctypes.c_void_p()
    check("krb5_cc_resolve", krb5.krb5_cc_resolve(ctx, b"FILE:" + path.encode(), ctypes.byref(cache)))
    return cache


def parse(name):
    principal = ctypes.c_void_p()
    check("krb5_parse_name", krb5.krb5_parse_name(ctx, name, ctypes.byref(principal)))
    return principal


def setting(cache, principal, key, value):
    # Versions up to 1.20 at least add a second value if the first is not removed.
    check("krb5_cc_set_config", krb5.krb5_cc_set_config(ctx, cache, principal, key, None))
    data = Data(0, len(value), value)
    check("krb5_cc_set_config", krb5.krb5_cc_set_config(ctx, cache, principal, key, ctypes.byref(data)))


check("krb5_init_context", krb5.krb5_init_context(ctypes.byref(ctx)))
source, target = resolve(sys.argv[1]), resolve(sys.argv[2])
owner = ctypes.c_void_p()
check("krb5_cc_get_principal", krb5.krb5_cc_get_principal(ctx, source, ctypes.byref(owner)))
check("krb5_cc_initialize", krb5.krb5_cc_initialize(ctx, target, owner))
check("krb5_cc_copy_creds", krb5.krb5_cc_copy_creds(ctx, source, target))
tgs = parse(b"krbtgt/CONTOSO.COM@CONTOSO.COM")
setting(target, None, b"start_realm", b"CONTOSO.COM")
setting(target, tgs, b"pa_type", b"138")

# Of krb5_creds, words 1 and 2 are client and server; without match flags only they are compared.
match = (ctypes.c_void_p * 64)()
match[1], match[2] = owner.value, tgs.value
check("krb5_cc_remove_cred", krb5.krb5_cc_remove_cred(ctx, target, 0, match))
