// Package explain says what the numbers mean that a domain, Windows and Kerberos
// print: the name, the meaning, why it happens to those who use group Managed
// Service Accounts, and the command to type next.
//
// The names are published tables: Kerberos' and kpasswd's are those of package krb5,
// Windows' are made by go generate from golang.org/x/sys/windows (names.txt), the
// events are those of package event. Causes and next steps are written by hand, for
// the codes that these systems really answer with. Nothing here asks anybody
// anything.
//
// Start with [Find], which takes a code, a name or a whole line of a log.
package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
)

//go:generate env GMSA_UPDATE=1 go test -count=1 -run TestNamesAreThoseOfWindows .

// Kind is a space of numbers: 24 is one thing to Kerberos and another to Windows.
type Kind string

// The kinds, in the order in which an ambiguous number is explained.
const (
	Event    Kind = "event"    // of the Container Credential Guard
	Kerberos Kind = "kerberos" // RFC 4120, Section 7.5.9
	Krb5     Kind = "krb5"     // what MIT Kerberos and Heimdal fail with themselves
	Kpasswd  Kind = "kpasswd"  // RFC 3244, Section 2
	LDAP     Kind = "ldap"     // RFC 4511, Section 4.1.9
	AD       Kind = "ad"       // behind "data" in LDAP error 49: a Win32 code in hexadecimal
	Win32    Kind = "win32"    // [MS-ERREF] 2.2
	NTStatus Kind = "ntstatus" // [MS-ERREF] 2.3
	HResult  Kind = "hresult"  // [MS-ERREF] 2.1
)

// Kinds are all kinds, in that order.
func Kinds() []Kind {
	return []Kind{Event, Kerberos, Krb5, Kpasswd, LDAP, AD, Win32, NTStatus, HResult}
}

// Title is what a reader calls the kind.
func (k Kind) Title() string {
	return map[Kind]string{
		Event: "event", Kerberos: "Kerberos", Krb5: "Kerberos library", Kpasswd: "kpasswd", LDAP: "LDAP",
		AD: "LDAP 49 data", Win32: "Win32", NTStatus: "NTSTATUS", HResult: "HRESULT",
	}[k]
}

// Entry is what is known of a code.
type Entry struct {
	Kind Kind `json:"kind"`
	// Code is the number as its systems print it: 24, 52e, 0xC000006D.
	Code string `json:"code"`
	// Other is the number in the other base; empty where nobody writes it.
	Other string `json:"other,omitempty"`
	Name  string `json:"name"`
	// Meaning is one clause. Of a code that nobody wrote about it is the name in words.
	Meaning string `json:"meaning"`
	// Cause is why it happens with gMSAs; empty where that is not known.
	Cause string `json:"cause,omitempty"`
	// Next are commands.
	Next []string `json:"next,omitempty"`
	// Source is where the code is defined.
	Source string `json:"source"`
}

// advice is what somebody wrote about a code.
type advice struct {
	meaning string
	// hint is the shortest next thing, for the end of an error message.
	hint  string
	cause string
	next  []string
}

// ref is a code of a kind.
type ref struct {
	kind  Kind
	value uint32
}

// krb5Base is ERROR_TABLE_BASE_krb5, -1765328384, as an unsigned number: MIT Kerberos and
// Heimdal add it to the codes of the protocol, which come first, and to their own.
const (
	krb5Base      uint32 = 0x96C73A00
	krb5Protocol  uint32 = 128 // so many codes are the protocol's
	krb5TableSize uint32 = 256
)

// facilityWin32 is an HRESULT that wraps a Win32 code: [MS-ERREF] 2.1.2.
const facilityWin32 uint32 = 0x80070000

// lookup is the entry of a code, if it has one.
func lookup(r ref) (Entry, bool) {
	switch r.kind {
	case Event:
		return eventEntry(event.ID(r.value))
	case Kerberos:
		return kerberosEntry(r.value)
	case Krb5:
		return libraryEntry(r.value)
	case Kpasswd:
		return kpasswdEntry(r.value)
	case LDAP:
		return ldapEntry(r.value)
	default:
		return windowsEntry(r)
	}
}

func eventEntry(id event.ID) (Entry, bool) {
	list := events()
	i := slices.IndexFunc(list, func(e loggedEvent) bool { return e.ID == id })
	if i < 0 {
		return Entry{}, false
	}
	x := list[i]
	return Entry{Kind: Event, Code: fmt.Sprint(int(id)), Name: x.Channel, Meaning: x.Message, Cause: x.cause, Next: x.next, Source: x.source}, true
}

func kerberosEntry(v uint32) (Entry, bool) {
	code := krb5.ErrorCode(v) //nolint:gosec // what does not fit is no code
	if code.Text() == "" {
		return Entry{}, false
	}
	a := kerberosAdvice[code]
	return Entry{
		Kind: Kerberos, Code: fmt.Sprint(v), Other: fmt.Sprintf("0x%x", v), Name: code.String(), Meaning: code.Text(),
		Cause: a.cause, Next: a.next, Source: kerberosSource(code),
	}, true
}

// kerberosSource is where the code is defined, as krb5.ErrorCode has it.
func kerberosSource(c krb5.ErrorCode) string {
	switch {
	case c == krb5.ErrWrongRealm:
		return "RFC 6806"
	case c >= krb5.ErrClientNotTrusted && c <= krb5.ErrPublicKeyEncryptionNotSupported && c != krb5.ErrNoTGT && c != krb5.ErrUser2UserRequired:
		return "RFC 4556, Section 3.1.3"
	case c >= krb5.ErrPreauthExpired && c <= krb5.ErrUnknownFASTOptions:
		return "RFC 6113, Section 5.3"
	case c == krb5.ErrNoAcceptableKDF:
		return "RFC 8636"
	}
	return "RFC 4120, Section 7.5.9"
}

func libraryEntry(v uint32) (Entry, bool) {
	x, ok := libraryCodes[v-krb5Base]
	if !ok || v < krb5Base {
		return Entry{}, false
	}
	return Entry{
		Kind: Krb5, Code: fmt.Sprint(int32(v)), Other: fmt.Sprintf("0x%08X", v), Name: x.name, Meaning: x.meaning, //nolint:gosec // printed signed on purpose
		Cause: x.cause, Next: x.next, Source: "the error table of MIT Kerberos, krb5_err.et",
	}, true
}

func kpasswdEntry(v uint32) (Entry, bool) {
	if v > uint32(kpasswd.ResultInitialFlagNeeded) {
		return Entry{}, false
	}
	code := kpasswd.ResultCode(v) //nolint:gosec // compared above
	name, meaning, _ := strings.Cut(code.String(), ": ")
	a := kpasswdAdvice[code]
	return Entry{Kind: Kpasswd, Code: fmt.Sprint(v), Name: name, Meaning: meaning, Cause: a.cause, Next: a.next, Source: "RFC 3244, Section 2"}, true
}

func ldapEntry(v uint32) (Entry, bool) {
	i := slices.IndexFunc(ldapCodes, func(c ldapCode) bool { return uint32(c.code) == v })
	if i < 0 {
		return Entry{}, false
	}
	c := ldapCodes[i]
	a := ldapAdvice[c.code]
	return Entry{
		Kind: LDAP, Code: fmt.Sprint(v), Other: fmt.Sprintf("0x%02x", v), Name: c.name, Meaning: c.meaning,
		Cause: a.cause, Next: a.next, Source: "RFC 4511, Appendix A.2",
	}, true
}

// windowsEntry is the entry of a code of [MS-ERREF].
func windowsEntry(r ref) (Entry, bool) {
	e := Entry{Kind: r.kind, Code: fmt.Sprintf("0x%08X", r.value), Source: windowsSource[r.kind]}
	a := advise(r)
	switch r.kind {
	case AD:
		if !slices.Contains(logonCodes, r.value) {
			return Entry{}, false
		}
		e.Code, e.Other, e.Name = fmt.Sprintf("%x", r.value), fmt.Sprint(r.value), name(ref{Win32, r.value})
	case Win32:
		e.Code, e.Other, e.Name = fmt.Sprint(r.value), fmt.Sprintf("0x%X", r.value), name(r)
	case HResult:
		e.Name = name(r)
		if inner := r.value &^ facilityWin32; e.Name == "" && r.value&0xFFFF0000 == facilityWin32 {
			e.Name, e.Other = name(ref{Win32, inner}), fmt.Sprintf("Win32 %d", inner)
		}
	default:
		e.Name = name(r)
	}
	if e.Name == "" {
		return Entry{}, false
	}
	e.Meaning, e.Cause, e.Next = a.meaning, a.cause, a.next
	if e.Meaning == "" {
		e.Meaning = words(e.Name)
	}
	return e, true
}

var windowsSource = map[Kind]string{
	AD: "[MS-ERREF] 2.2", Win32: "[MS-ERREF] 2.2", NTStatus: "[MS-ERREF] 2.3.1", HResult: "[MS-ERREF] 2.1.1",
}

// advise is what was written about a code of Windows: under its own number, or under
// the Win32 code of the same meaning.
func advise(r ref) advice {
	switch r.kind {
	case NTStatus:
		if a, ok := ntstatusAdvice[r.value]; ok {
			return a
		}
		if v, ok := statusWin32[krb5.NTStatus(r.value)]; ok {
			return win32Advice[v]
		}
		return advice{}
	case HResult:
		if a, ok := hresultAdvice[r.value]; ok {
			return a
		}
		if r.value&0xFFFF0000 != facilityWin32 {
			return advice{}
		}
		return win32Advice[r.value&^facilityWin32]
	}
	return win32Advice[r.value]
}

// Brief is the meaning of a Win32 code or HRESULT as an error message has it, and the
// next thing to do; both are empty where nobody wrote about it.
func Brief(code uint32) (meaning, hint string) {
	a, ok := win32Advice[code]
	if !ok {
		a = hresultAdvice[code]
	}
	return a.meaning, a.hint
}

// IsLogonFailure reports whether a directory puts code behind "data" in the message of
// a refused bind.
func IsLogonFailure(code uint32) bool { return slices.Contains(logonCodes, code) }

// words is a name as words: what there is to say where nobody wrote more.
func words(name string) string {
	for _, prefix := range []string{"ERROR_", "STATUS_", "SEC_E_", "NTE_", "RPC_S_"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name = rest
			break
		}
	}
	return strings.ToLower(strings.ReplaceAll(name, "_", " "))
}

// Advised are the entries that somebody wrote a cause or a next step for.
func Advised(kinds ...Kind) []Entry {
	var list []Entry
	for _, r := range advised() {
		if e, ok := lookup(r); ok && (len(kinds) == 0 || slices.Contains(kinds, e.Kind)) {
			list = append(list, e)
		}
	}
	return list
}

// advised are the codes of those entries, by kind and number.
func advised() []ref {
	var refs []ref
	for _, e := range events() {
		refs = append(refs, ref{Event, uint32(e.ID)}) //nolint:gosec // 4004 at most
	}
	for c := range kerberosAdvice {
		refs = append(refs, ref{Kerberos, uint32(c)}) //nolint:gosec // codes are positive
	}
	for v := range libraryCodes {
		refs = append(refs, ref{Krb5, krb5Base + v})
	}
	for c := range kpasswdAdvice {
		refs = append(refs, ref{Kpasswd, uint32(c)})
	}
	for c := range ldapAdvice {
		refs = append(refs, ref{LDAP, uint32(c)})
	}
	for _, v := range logonCodes {
		refs = append(refs, ref{AD, v})
	}
	for v := range win32Advice {
		refs = append(refs, ref{Win32, v})
	}
	for s := range statusWin32 {
		refs = append(refs, ref{NTStatus, uint32(s)})
	}
	for v := range ntstatusAdvice {
		refs = append(refs, ref{NTStatus, v})
	}
	for v := range hresultAdvice {
		refs = append(refs, ref{HResult, v})
	}
	slices.SortFunc(refs, compareRefs)
	return refs
}

func compareRefs(a, b ref) int {
	if a.kind != b.kind {
		return slices.Index(Kinds(), a.kind) - slices.Index(Kinds(), b.kind)
	}
	return int(int64(a.value) - int64(b.value))
}
