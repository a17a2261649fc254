// Package account keeps one gMSA of one domain ready on this host: it knows when
// to read the managed password, which of the keys it yields the domain uses at
// which instant, gets tickets with them, and has both in hand before anybody
// asks.
//
// It is not a client: what it wants of a domain it says as [Domain], whose
// implementation speaks LDAP and Kerberos; it writes no file and knows no lease
// and no process. It has two halves:
//
//   - [Ring] is pure: what was read, when and from which controller, folded into
//     the keys that initiators and acceptors need at an instant, and the instant
//     of the next read. Time is an argument.
//   - [Pool] runs accounts: a heap of due times, a bound on the requests in
//     flight, no goroutine per account.
//
// The rules are those of [MS-ADTS] 3.1.1.4.5.39 (msDS-ManagedPassword) and of
// RFC 4120, with what domains were seen to do beyond them. The traps, each of
// which has its test here:
//
//   - In the last 5 minutes of its life a password is already called previous,
//     and current is the next one, which the KDC refuses until the hour strikes.
//   - A rollover happens at the first touch after the expiry, on each controller
//     by its own clock; the others learn of it by replication, early by theirs.
//   - kvno counts writes, not intervals, and is read in a search of its own.
//   - After an account's first rollover nobody gives the old password back for
//     up to 10 h, while tickets under it live.
//   - A rename changes the salt of the next password, not of this one.
//
// Read [Pool.Open] first, then [Ring.Observe].
package account
