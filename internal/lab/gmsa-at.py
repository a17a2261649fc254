# gmsa-at.py SMB.CONF SAM.LDB: what Samba's own code says of gMSAs at chosen times. It reads
# lines "NAME FILETIME" and prints msDS-ManagedPassword in hex. Nothing is written to the
# database, so that each answer is that of a domain which nobody has asked since the accounts
# were made.
import sys

from samba.auth import system_session
from samba.param import LoadParm
from samba.samdb import SamDB

lp = LoadParm()
lp.load(sys.argv[1])
db = SamDB(sys.argv[2], session_info=system_session(lp), lp=lp)
for line in sys.stdin:
    name, time = line.split()
    db.set_opaque('dsdb_gmsa_time_opaque', int(time))
    found = db.search(f'CN={name},CN=Managed Service Accounts,{db.domain_dn()}', scope=0, attrs=['msDS-ManagedPassword'])
    print(bytes(found[0]['msDS-ManagedPassword'][0]).hex())
