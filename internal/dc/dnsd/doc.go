// Package dnsd serves the names of a domain: those by which its clients find the
// controller (SRV, [MS-ADTS] 6.3.2.3), those of hosts, and back from addresses to names
// (RFC 1034, 1035, 2782). It is authoritative for them, over UDP and TCP.
//
// It is no resolver: a name of nobody it knows is refused at once, so that a client
// with a second name server goes there without waiting. It transfers no zones and signs
// none. Read [Config] first, then [Server.ServeDNS].
package dnsd
