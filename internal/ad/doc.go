// Package ad is a domain as its hosts and administrators see it: typed
// operations over protected LDAP and Kerberos. A [Domain] says how to reach it,
// an [Identity] who asks, a [Session] does the asking: it holds the identity's
// ticket, one connection to each controller that it needs, and goes on to the
// next controller when one dies.
//
// It keeps no password that it reads, writes no log and no file, and decides
// nothing about schedules and retries over minutes: those are the agent's. It
// speaks neither RPC nor SMB.
//
// Read [Open], [Session.ManagedPassword] and [Session.Find] first.
package ad
