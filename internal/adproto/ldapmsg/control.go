package ldapmsg

// Paged is the value of the paged results control in both directions: RFC 2696. In an
// answer Size is an estimate of all entries, 0 for none.
type Paged struct {
	Size   int
	Cookie []byte
}

// ParsePaged reads the value of a request's control.
func ParsePaged(value []byte) (p Paged, err error) {
	r := reader{b: value}
	body := r.element(tagSequence)
	r.end()
	r = reader{b: body, err: r.err}
	size := r.integer(tagInteger)
	p = Paged{Size: int(size), Cookie: r.octets()}
	r.end()
	if size < 0 {
		r.fail("page of %d entries", size)
	}
	return p, wrap("paged results control", r.err)
}

// Append writes the value.
func (p Paged) Append(dst []byte) []byte {
	dst, m := begin(dst, tagSequence)
	dst = appendInteger(dst, tagInteger, uint32(p.Size))
	return end(appendString(dst, tagOctetString, p.Cookie), m)
}

// SortKey is one key of a sort control: RFC 2891.
type SortKey struct {
	Attribute string
	Rule      string // of ordering; empty for the attribute's own
	Reverse   bool
}

// ParseSort reads the value of a sort control, which has one key at least. The number
// of keys is limited by maxSortKeys.
func ParseSort(value []byte) (keys []SortKey, err error) {
	r := reader{b: value}
	list := reader{b: r.element(tagSequence)}
	r.end()
	list.err = r.err
	for len(list.b) > 0 && list.err == nil {
		if len(keys) == maxSortKeys {
			list.fail("more than %d keys", maxSortKeys)
			break
		}
		one := reader{b: list.element(tagSequence), err: list.err}
		k := SortKey{Attribute: string(one.octets())}
		if one.has(context) {
			k.Rule = string(one.element(context))
		}
		if one.has(context | 1) {
			k.Reverse = one.boolean(context | 1)
		}
		one.end()
		keys, list.err = append(keys, k), one.err
	}
	if len(keys) == 0 {
		list.fail("no key")
	}
	return keys, wrap("sort control", list.err)
}

// maxSortKeys bounds what is kept of a list that Active Directory takes one key of.
const maxSortKeys = 16

// AppendSortResult writes the value of the answer to a sort control: code is a
// result's, such as 0 or 16, attribute what it is about, or empty.
func AppendSortResult(dst []byte, code int, attribute string) []byte {
	dst, m := begin(dst, tagSequence)
	dst = appendInteger(dst, tagEnumerated, uint32(code))
	if attribute != "" {
		dst = appendString(dst, context, attribute)
	}
	return end(dst, m)
}

// ParseFlags reads the value of a control that is a sequence of one number:
// LDAP_SERVER_SD_FLAGS and LDAP_SERVER_EXTENDED_DN, [MS-ADTS] 3.1.1.3.4.1.11 and 5.
func ParseFlags(value []byte) (flags int, err error) {
	r := reader{b: value}
	body := r.element(tagSequence)
	r.end()
	r = reader{b: body, err: r.err}
	n := r.integer(tagInteger)
	r.end()
	return int(n), wrap("control's flags", r.err)
}
