"""Logs on with impacket and keeps the ticket, as its getTGT does: it reads fields of the
reply that others take for optional."""
import sys

from impacket.krb5 import constants
from impacket.krb5.ccache import CCache
from impacket.krb5.kerberosv5 import getKerberosTGT
from impacket.krb5.types import Principal

name, password, cache = sys.argv[1:]
client = Principal(name, type=constants.PrincipalNameType.NT_PRINCIPAL.value)
tgt, cipher, old, key = getKerberosTGT(client, password, "contoso.com", b"", b"", None, "dc1.contoso.com")
c = CCache()
c.fromTGT(tgt, old, key)
c.saveFile(cache)
print("key of type", cipher.enctype)
