// Package kds is the Key Distribution Service of a domain controller: which
// root key and which interval the password of a group Managed Service Account
// comes from, at any time, for whoever reads it and for the KDC.
//
// Nothing here is a job that rewrites passwords. An account carries a
// [Timeline], a short list of entries, and everything else is a pure function
// of that list and a time:
//
//	entry   {first key id, root key, kvno at the first key id, salt}
//
//	 entry 0          entry 1 (a new root key)      entry 2 (a forced rotation)
//	   │                 │                             │
//	   ▼                 ▼                             ▼
//	   ├──── 1 ────┼─ 2 ─┤──── 3 ────┼──── 4 ────┼─ 5 ─┤──── 6 ────┼──── …   periods, by kvno
//
// An entry that is added begins at an interval whose password nobody can have
// been told yet, so that adding or removing a root key never changes a password
// that somebody relies on, and controllers that share the list agree without
// talking to each other.
//
// It is not a store, a clock or a server: the directory keeps root keys and
// timelines, callers pass the time, and msDS-ManagedPassword is granted
// elsewhere. The derivation itself is package gkdi's. Specifications: [MS-GKDI]
// 13.0; [MS-ADTS] 3.1.1.4.5.39 (msDS-ManagedPassword).
//
// Read [Timeline] first, then [Timeline.Read] and [Timeline.Accepted].
package kds
