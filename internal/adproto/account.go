package adproto

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// AccountForm is the way in which an account's name was written.
type AccountForm int

// The forms.
const (
	FormSAM     AccountForm = iota + 1 // NAME or NAME$
	FormNetBIOS                        // DOMAIN\NAME or DOMAIN\NAME$
	FormUPN                            // NAME@SUFFIX
	FormDN                             // a distinguished name
)

// AccountName is an account as a person or a file names it. It names; it does
// not resolve: which domain a bare name belongs to is the caller's to say.
type AccountName struct {
	Form AccountForm
	// Name is the name without domain; a trailing '$' is kept. For a user
	// principal name it is what stands before the last '@', for a
	// distinguished name the value of the first RDN.
	Name string
	// Domain is a NetBIOS name, DNS name or UPN suffix; empty where none was
	// written.
	Domain string
	// DN is set for [FormDN] alone.
	DN DN
}

// MaxAccountName bounds what stands before the domain, in characters. The
// schema allows 256 for sAMAccountName, 1,024 for userPrincipalName.
const MaxAccountName = 1024

// ErrAccountName wraps every error of [ParseAccountName].
var ErrAccountName = errors.New("bad account name")

// ParseAccountName reads NAME, NAME$, DOMAIN\NAME, DOMAIN\NAME$, NAME@SUFFIX
// and distinguished names.
func ParseAccountName(s string) (AccountName, error) {
	a, err := parseAccountName(s)
	if err != nil {
		return AccountName{}, fmt.Errorf("%w %q: %w", ErrAccountName, s, err)
	}
	return a, nil
}

func parseAccountName(s string) (AccountName, error) {
	if !utf8.ValidString(s) {
		return AccountName{}, errors.New("not UTF-8")
	}
	if looksLikeDN(s) {
		dn, err := ParseDN(s)
		if err != nil {
			return AccountName{}, err
		}
		return AccountName{Form: FormDN, Name: dn.Name(), Domain: dn.DNSDomain(), DN: dn}, nil
	}
	a := AccountName{Form: FormSAM, Name: s}
	if domain, name, ok := strings.Cut(s, `\`); ok {
		a = AccountName{Form: FormNetBIOS, Name: name, Domain: domain}
		if domain == "" || strings.ContainsAny(domain, `\/@ `) {
			return AccountName{}, fmt.Errorf("bad domain %q", domain)
		}
	} else if i := strings.LastIndexByte(s, '@'); i >= 0 {
		a = AccountName{Form: FormUPN, Name: s[:i], Domain: s[i+1:]}
		if a.Domain == "" || strings.ContainsAny(a.Domain, `/ `) {
			return AccountName{}, fmt.Errorf("bad suffix %q", a.Domain)
		}
	}
	return a, checkName(a)
}

// looksLikeDN tells a distinguished name from the other forms: '=' cannot stand
// in a sAMAccountName ([MS-ADTS] 3.1.1.5.1.3), and a UPN's suffix has none.
func looksLikeDN(s string) bool {
	typ, _, ok := strings.Cut(s, "=")
	return ok && ValidAttribute(strings.Trim(typ, " "))
}

// checkName refuses what a sAMAccountName cannot hold: [MS-SAMR] 3.1.1.6, and
// NUL.
func checkName(a AccountName) error {
	switch n := utf8.RuneCountInString(a.Name); {
	case strings.TrimRight(a.Name, "$") == "":
		return errors.New("empty")
	case n > MaxAccountName:
		return fmt.Errorf("%d characters, limit %d", n, MaxAccountName)
	}
	for _, r := range a.Name {
		if r < 0x20 || r == 0x7f || strings.ContainsRune(`"/\[]:|<>+=;?,*`, r) || r == '@' && a.Form != FormUPN {
			return fmt.Errorf("character %q", r)
		}
	}
	return nil
}

// SAM is the sAMAccountName of a computer, gMSA or sMSA of this name: with
// exactly one '$' at the end.
func (a AccountName) SAM() string { return a.Bare() + "$" }

// Bare is the name without a trailing '$'.
func (a AccountName) Bare() string { return strings.TrimSuffix(a.Name, "$") }

// String writes the name in the form it was read in.
func (a AccountName) String() string {
	switch a.Form {
	case FormNetBIOS:
		return a.Domain + `\` + a.Name
	case FormUPN:
		return a.Name + "@" + a.Domain
	case FormDN:
		return a.DN.String()
	}
	return a.Name
}

// InDomain reports whether the name can belong to the domain with these names:
// it names no domain, or one of them. A UPN suffix need not be a domain's name,
// so a foreign one is not excluded.
func (a AccountName) InDomain(dnsName, netBIOS string) bool {
	switch a.Form {
	case FormNetBIOS:
		return strings.EqualFold(a.Domain, netBIOS) || strings.EqualFold(a.Domain, dnsName)
	case FormDN:
		return strings.EqualFold(a.Domain, dnsName)
	}
	return true
}

// ServiceFilter finds the computer, gMSA or sMSA of this name in the domain
// called dnsName. A distinguished name is not searched for: read it as the
// base.
func (a AccountName) ServiceFilter(dnsName string) Filter {
	sam := Equal("sAMAccountName", a.SAM())
	if a.Form != FormUPN {
		return sam
	}
	if strings.EqualFold(a.Domain, dnsName) {
		return Or(Equal("userPrincipalName", a.String()), sam)
	}
	return Equal("userPrincipalName", a.String())
}

// Filter finds an account of any kind: the name as written and, where it has no
// '$', the computer or service account of that name too.
func (a AccountName) Filter(dnsName string) Filter {
	names := []Filter{}
	if a.Form == FormUPN {
		names = append(names, Equal("userPrincipalName", a.String()))
		if !strings.EqualFold(a.Domain, dnsName) {
			return names[0]
		}
	}
	names = append(names, Equal("sAMAccountName", a.Name))
	if !strings.HasSuffix(a.Name, "$") {
		names = append(names, Equal("sAMAccountName", a.SAM()))
	}
	if len(names) == 1 {
		return names[0]
	}
	return Or(names...)
}
