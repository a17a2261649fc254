package explain

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Limits of what is read, so that a whole log does not take a minute: bytes of text, and
// entries of an answer.
const (
	MaxText    = 64 << 10
	maxEntries = 64
)

// mention is a place of the text that may be a code.
type mention struct {
	refs []ref // one for each kind that it may be of
	// rank says how much it tells: 0 most.
	rank int
}

// The ranks: what is behind "data" tells more than the error 49 around it; and a small
// number without a word of its kind counts only where the text has nothing better.
const (
	rankData = iota
	rankSure
	rankGuess
)

// Find gives the entries of the codes that text has: one code, such as 24, 0xc000006d,
// 52e, "event 4" or KDC_ERR_PREAUTH_FAILED, or a line of somebody's log. Where kinds
// are named, only they count. What tells most comes first.
func Find(text string, kinds ...Kind) []Entry {
	text = strings.ToValidUTF8(text[:min(len(text), MaxText)], " ")
	mentions := spoken(text)
	mentions = append(mentions, scan(text, kinds)...)
	if len(mentions) == 0 {
		mentions = bracketed(text)
	}
	slices.SortStableFunc(mentions, func(a, b mention) int { return a.rank - b.rank })
	if len(mentions) > 0 && mentions[0].rank < rankGuess {
		mentions = slices.DeleteFunc(mentions, func(m mention) bool { return m.rank == rankGuess })
	}
	var list []Entry
	seen := map[ref]bool{}
	for _, m := range mentions {
		for _, r := range m.refs {
			if seen[r] || len(kinds) > 0 && !slices.Contains(kinds, r.kind) || len(list) == maxEntries {
				continue
			}
			if e, ok := lookup(r); ok {
				list = append(list, e)
				seen[r] = true
			}
		}
	}
	return list
}

// spoken finds the codes that a text has in words: of events, and of MIT Kerberos.
func spoken(text string) []mention {
	var found []mention
	for _, e := range events() {
		if strings.Contains(text, e.begins) {
			found = append(found, mention{[]ref{{Event, uint32(e.ID)}}, rankSure}) //nolint:gosec // 4004 at most
		}
	}
	lower := strings.ToLower(text)
	for _, p := range phrases {
		if rest, after, ok := strings.Cut(lower, p.text); ok {
			r := p.ref
			if r == (ref{Kerberos, 7}) && strings.Contains(rest[max(0, len(rest)-100):], "client") {
				r = ref{Kerberos, 6} // Client 'x@Y' not found in Kerberos database
			}
			found = append(found, mention{[]ref{r}, rankSure})
			lower = rest + " " + after // a shorter phrase of the same words does not count again
		}
	}
	return found
}

// context is what a word ahead of a number says of its kind; none leaves it open.
var context = map[string][]Kind{
	"event": {Event}, "eventid": {Event}, "event-id": {Event},
	"kerberos": {Kerberos}, "krb": {Kerberos}, "krb5": {Kerberos}, "kdc": {Kerberos}, "krb-error": {Kerberos},
	"krb_error": {Kerberos}, "krbexception": {Kerberos}, "kpasswd": {Kpasswd},
	"ldap": {LDAP}, "ldap_bind": {LDAP}, "ldap_search": {LDAP}, "ldap_result": {LDAP}, "data": {AD}, "ad": {AD},
	"win32": {Win32}, "ntstatus": {NTStatus}, "hresult": {HResult},
	"error": nil, "code": nil, "status": nil, "result": nil, "id": nil, "rc": nil, "err": nil, "errno": nil,
}

// scan finds the numbers and names of a text.
func scan(text string, kinds []Kind) []mention {
	tokens := strings.FieldsFunc(text, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	})
	bare, alone := allBare(tokens), len(tokens) == 1
	var found []mention
	for i, t := range tokens {
		of, inContext := contextOf(tokens[:i])
		if bare && len(of) == 0 {
			of = kinds
		}
		if m, ok := codeOf(t, of, bare || inContext, alone); ok {
			found = append(found, m)
		}
		if len(found) > maxEntries {
			break
		}
	}
	return found
}

// bracketed finds what is left to look at: numbers in brackets, as in "Error (49)".
func bracketed(text string) []mention {
	kerberos := strings.Contains(strings.ToLower(text), "krb")
	var found []mention
	for _, part := range strings.Split(text, "(")[1:] {
		inside, _, ok := strings.Cut(part, ")")
		if !ok || len(found) > maxEntries {
			continue
		}
		var of []Kind
		if kerberos {
			of = []Kind{Kerberos}
		}
		if m, ok := codeOf(strings.TrimSpace(inside), of, true, false); ok {
			found = append(found, m)
		}
	}
	return found
}

// allBare reports whether the text is numbers and words about numbers, and nothing
// else: then each number is a code.
func allBare(tokens []string) bool {
	return !slices.ContainsFunc(tokens, func(t string) bool {
		_, word := context[strings.ToLower(t)]
		_, _, number := parseNumber(t)
		return !word && !number
	})
}

// contextOf looks at the last three words for what is said of the number behind them.
func contextOf(before []string) (kinds []Kind, ok bool) {
	for _, t := range slices.Backward(before[max(0, len(before)-3):]) {
		t = strings.ToLower(t)
		if strings.HasPrefix(t, "ldap_") {
			t = "ldap"
		}
		if k := context[t]; k != nil {
			return k, true
		}
		if _, word := context[t]; word {
			ok = true
		} else if _, _, number := parseNumber(t); number {
			return nil, ok // a word ahead of another number is that one's
		}
	}
	return nil, ok
}

// maxSmall is the largest number that is taken for a status or HRESULT only where the
// text says so: the small ones are successes and warnings that nobody looks up.
const maxSmall = 0xFFFF

// codeOf is what a token may mean: of the kinds that the context names, or of all. A
// number without 0x counts where the text says that it is one.
func codeOf(t string, of []Kind, number, alone bool) (mention, bool) {
	if refs := named(t, alone); len(refs) > 0 {
		return mention{refs, rankSure}, true
	}
	v, form, ok := parseNumber(t)
	switch {
	case !ok:
		return mention{}, false
	case form == plainDigits && !number, form == bareHex && !number && len(t) < 8:
		return mention{}, false
	}
	m := mention{rank: rankGuess}
	if len(of) > 0 || v > maxSmall || len(t) == 8 {
		m.rank = rankSure
	}
	if slices.Equal(of, []Kind{AD}) {
		m.rank = rankData
	}
	for _, k := range Kinds() {
		if len(of) > 0 && !slices.Contains(of, k) {
			continue
		}
		if r, ok := asKind(k, t, v, form); ok && (len(of) > 0 || v > maxSmall || k != NTStatus && k != HResult) {
			m.refs = append(m.refs, r)
		}
	}
	return m, len(m.refs) > 0
}

// asKind reads a number as one of a kind; most kinds are written in some ways only.
func asKind(k Kind, t string, v uint32, form numberForm) (ref, bool) {
	r := ref{k, v}
	switch k {
	case AD:
		hex, err := strconv.ParseUint(strings.TrimPrefix(strings.ToLower(t), "0x"), 16, 32)
		r.value = uint32(hex) //nolint:gosec // 32 bits were asked for
		if err != nil || form == signed || form == prefixedHex {
			return r, false
		}
	case Kerberos:
		if v >= krb5Base && v < krb5Base+krb5Protocol {
			r.value -= krb5Base
		} else if form == bareHex {
			return r, false
		}
	case Krb5:
		if v < krb5Base || v >= krb5Base+krb5TableSize {
			return r, false
		}
	case Event, LDAP, Kpasswd:
		if form == bareHex || form == signed {
			return r, false
		}
	}
	_, ok := lookup(r)
	return r, ok
}

// numberForm is how a number is written.
type numberForm int

const (
	plainDigits numberForm = iota // 24, 1326
	prefixedHex                   // 0xC000006D
	bareHex                       // 52e, 000021C7
	signed                        // -1765328360, 3221225581: 32 bits with a sign, or in spite of one
)

// parseNumber reads a number of at most 32 bits in any of its forms.
func parseNumber(t string) (uint32, numberForm, bool) {
	if hex, ok := strings.CutPrefix(strings.ToLower(t), "0x"); ok {
		v, err := strconv.ParseUint(hex, 16, 32)
		return uint32(v), prefixedHex, err == nil //nolint:gosec // 32 bits were asked for
	}
	if v, err := strconv.ParseInt(t, 10, 32); err == nil && v < 0 {
		return uint32(v), signed, true //nolint:gosec // two's complement is what is meant
	}
	if len(t) != 8 {
		if v, err := strconv.ParseUint(t, 10, 32); err == nil {
			if v > 0x7FFFFFFF {
				return uint32(v), signed, true
			}
			return uint32(v), plainDigits, true
		}
	}
	if len(t) == 8 || len(t) == 3 {
		v, err := strconv.ParseUint(t, 16, 32)
		return uint32(v), bareHex, err == nil //nolint:gosec // 32 bits were asked for
	}
	return 0, 0, false
}

// spellings are prefixes by which others write the names.
var spellings = []struct{ theirs, ours string }{
	{"KRB5KDC_ERR_", "KDC_ERR_"}, {"KRB5KRB_AP_ERR_", "KRB_AP_ERR_"}, {"KRB5KRB_ERR_", "KRB_ERR_"}, {"NT_STATUS_", "STATUS_"}, {"WERR_", "ERROR_"},
	{"NERR_SUCCESS", "ERROR_SUCCESS"}, {"KRB5KDC_ERR_NEED_USER2USER", "KDC_ERR_MUST_USE_USER2USER"},
}

// aliases are names that others have for a code.
var aliases = map[string]string{
	"KDC_ERR_NAME_EXPIRED": "KDC_ERR_NAME_EXP", "KDC_ERR_KEY_EXP": "KDC_ERR_KEY_EXPIRED",
	"LDAP_INVALID_CREDENTIALS": "invalidCredentials", "LDAP_INSUFFICIENT_ACCESS": "insufficientAccessRights", "LDAP_ALREADY_EXISTS": "entryAlreadyExists",
	"LDAP_NO_SUCH_OBJECT": "noSuchObject", "LDAP_UNWILLING_TO_PERFORM": "unwillingToPerform", "LDAP_STRONG_AUTH_REQUIRED": "strongerAuthRequired",
	"LDAP_CONSTRAINT_VIOLATION": "constraintViolation", "LDAP_OPERATIONS_ERROR": "operationsError",
}

// isName reports whether t has the form of a code's name.
func isName(t string) bool {
	return strings.Contains(t, "_") || strings.ToLower(t) != t && strings.ToUpper(t) != t && t[0] >= 'a'
}

// named are the codes that a name is of. A name that stands alone may be in lower case.
func named(t string, alone bool) []ref {
	if !isName(t) && !alone {
		return nil
	}
	if i := slices.IndexFunc(ldapCodes, func(c ldapCode) bool { return c.name == t || alone && strings.EqualFold(c.name, t) }); i >= 0 {
		return []ref{{LDAP, uint32(ldapCodes[i].code)}}
	}
	if !strings.Contains(t, "_") || !alone && strings.ToUpper(t) != t && t != "NERR_Success" {
		return nil
	}
	upper := strings.ToUpper(t)
	for _, s := range spellings {
		if rest, ok := strings.CutPrefix(upper, s.theirs); ok {
			upper = s.ours + rest
		}
	}
	if to, ok := aliases[upper]; ok {
		if i := slices.IndexFunc(ldapCodes, func(c ldapCode) bool { return c.name == to }); i >= 0 {
			return []ref{{LDAP, uint32(ldapCodes[i].code)}}
		}
		upper = to
	}
	if r, ok := windows().byName[upper]; ok {
		return []ref{r}
	}
	if !strings.HasPrefix(upper, "KDC_") && !strings.HasPrefix(upper, "KRB") {
		return nil
	}
	return namedByKerberos(upper)
}

// namedByKerberos are the codes of the tables that are small enough to look through.
func namedByKerberos(upper string) []ref {
	for _, kind := range []Kind{Kerberos, Kpasswd} {
		for v := range krb5Protocol {
			if e, ok := lookup(ref{kind, v}); ok && e.Name == upper {
				return []ref{{kind, v}}
			}
		}
	}
	for v, c := range libraryCodes {
		if c.name == upper {
			return []ref{{Krb5, krb5Base + v}}
		}
	}
	return nil
}

// Nearest are the entries whose names or codes are most like text, at most five: for a
// code that there is not.
func Nearest(text string, kinds ...Kind) []Entry {
	text = strings.ToUpper(strings.TrimSpace(text))
	if text == "" || len(text) > 60 {
		return nil
	}
	type near struct {
		Entry
		distance int
	}
	var all []near
	for _, e := range Advised(kinds...) {
		d := distance(text, strings.ToUpper(e.Name))
		for _, part := range strings.Split(strings.ToUpper(e.Name), "_ERR_")[1:] {
			d = min(d, distance(text, part))
		}
		d = min(d, distance(text, strings.ToUpper(e.Code)))
		if d <= max(1, len(text)/3) {
			all = append(all, near{e, d})
		}
	}
	slices.SortStableFunc(all, func(a, b near) int { return cmp.Compare(a.distance, b.distance) })
	var list []Entry
	for _, n := range all[:min(len(all), 5)] {
		list = append(list, n.Entry)
	}
	return list
}

// distance is Levenshtein's: how many letters must be changed, added or left out.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
