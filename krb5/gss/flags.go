package gss

import "strings"

// Flags are the properties of a context: RFC 2743, Section 1.2.1, numbered as in
// the checksum of RFC 4121, Section 4.1.1.1; the last three are [MS-KILE]
// 3.2.5.2.
type Flags uint32

// The context flags.
const (
	FlagDelegate      Flags = 1 << 0 // a KRB-CRED travels with the first token
	FlagMutual        Flags = 1 << 1 // the acceptor proves itself too
	FlagReplay        Flags = 1 << 2 // replayed messages are refused
	FlagSequence      Flags = 1 << 3 // messages out of order are refused
	FlagConf          Flags = 1 << 4 // messages may be encrypted
	FlagInteg         Flags = 1 << 5 // messages may be signed
	FlagDCEStyle      Flags = 1 << 12
	FlagIdentify      Flags = 1 << 13
	FlagExtendedError Flags = 1 << 14
)

// DefaultFlags is what an initiator asks for by default: everything that
// protects messages.
const DefaultFlags = FlagMutual | FlagReplay | FlagSequence | FlagConf | FlagInteg

// Has reports whether all of flags are set.
func (f Flags) Has(flags Flags) bool { return f&flags == flags }

// String lists the names, such as "mutual replay sequence conf integ".
func (f Flags) String() string {
	var names []string
	for _, n := range []struct {
		flag Flags
		name string
	}{
		{FlagDelegate, "delegate"}, {FlagMutual, "mutual"}, {FlagReplay, "replay"}, {FlagSequence, "sequence"},
		{FlagConf, "conf"}, {FlagInteg, "integ"}, {FlagDCEStyle, "dce-style"}, {FlagIdentify, "identify"},
		{FlagExtendedError, "extended-error"},
	} {
		if f.Has(n.flag) {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, " ")
}
