// Package ldapmsg is the messages of LDAP as a server reads and writes them: RFC 4511.
// Requests become values, results and entries become bytes.
//
// It is written by hand and without a tree of nodes, because every request of a
// controller passes through it. What comes from outside is strict BER with limits that
// are stated here: [MaxControls], [MaxValues], [MaxSelection] and those of
// adproto's filters. The size of a message is for whoever reads it from a socket
// (adproto.MessageSize).
//
// A client's side of the wire is in internal/ldapc. Read [Parse] first, then
// [Message].
package ldapmsg
