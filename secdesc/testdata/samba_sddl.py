# Answers each line of JSON on standard input with one on standard output:
# {"sddl": S}  -> {"hex": the packed descriptor, "sddl": as Samba prints it}
# {"hex": H}   -> the same of a packed descriptor
# or {"error": ...}. The domain and the forest's root are S-1-5-21-1-2-3.
import json
import sys

from samba.dcerpc import security
from samba.ndr import ndr_pack, ndr_unpack

domain = security.dom_sid("S-1-5-21-1-2-3")
for line in sys.stdin:
    question = json.loads(line)
    try:
        if "sddl" in question:
            sd = security.descriptor.from_sddl(question["sddl"], domain)
        else:
            sd = ndr_unpack(security.descriptor, bytes.fromhex(question["hex"]))
        answer = {"hex": ndr_pack(sd).hex(), "sddl": sd.as_sddl(domain)}
    except Exception as e:
        answer = {"error": str(e)}
    print(json.dumps(answer), flush=True)
