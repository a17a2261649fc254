// Package agent is the credential guard of a host: it gives workloads the
// identity of group managed service accounts.
//
// It puts together what lies below it and adds the leases themselves:
//
//	caller ─► admission ─► server ─► policy
//	          (peer, limits)  │
//	                          ├─► specs, resolver ─► Identities (host, plug-ins)
//	                          │                        │ account.Domain
//	                          └─► book ─► account.Pool ◄┘
//	                               │         │ snapshots
//	                               ▼         ▼
//	                      lease.Dir ◄── renderer: ccache, keytabs, krb5.conf
//
// Work is per account: the pool fetches and renews once, the renderer encodes a
// snapshot once, and a lease costs a directory, a line of the journal and a
// watch on its workload's pidfd. It speaks neither LDAP nor Kerberos itself:
// those are behind [Identities]. It runs on Linux alone.
//
// Read [Config], [New] and [Agent.Run] first, then book.create.
package agent
