package directory

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// target is the name of an object as a request has it, taken apart.
type target struct {
	dn   adproto.DN // of the object, or of the one that knows it
	guid dtyp.GUID  // <GUID=…>
	sid  dtyp.SID   // <SID=…>
	// known is the GUID of <WKGUID=…,DN> as wellKnownObjects has it: 32 hexadecimal
	// digits in capitals.
	known string
}

// parseTarget reads the name of an object: a distinguished name, or one of the forms
// of [MS-ADTS] 3.1.1.3.1.2.4. GUIDs may be written in dashes or as the hexadecimal
// digits of their bytes, SIDs as S-1-… or likewise.
func parseTarget(name string) (target, error) {
	var t target
	var err error
	inner, special := strings.CutPrefix(strings.TrimSpace(name), "<")
	if !special {
		t.dn, err = adproto.ParseDN(name)
		return t, badName(err)
	}
	inner, closed := strings.CutSuffix(inner, ">")
	kind, value, _ := strings.Cut(inner, "=")
	if !closed {
		return t, badName(errors.New("no closing >"))
	}
	switch {
	case strings.EqualFold(kind, "GUID"):
		t.guid, err = parseGUID(value)
	case strings.EqualFold(kind, "SID"):
		t.sid, err = parseSID(value)
	case strings.EqualFold(kind, "WKGUID"):
		known, dn, _ := strings.Cut(value, ",")
		if _, err = hex.DecodeString(known); err != nil || len(known) != 2*dtyp.GUIDSize {
			return t, badName(fmt.Errorf("WKGUID %.40q is not 32 hexadecimal digits", known))
		}
		t.known = strings.ToUpper(known)
		t.dn, err = adproto.ParseDN(dn)
	default:
		err = fmt.Errorf("no form of name %.16q", kind)
	}
	return t, badName(err)
}

func badName(err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: InvalidDNSyntax, Win32: Win32InvalidDN, Message: "the name of the object is malformed", Err: err}
}

func parseGUID(s string) (dtyp.GUID, error) {
	if len(s) != 2*dtyp.GUIDSize {
		return dtyp.ParseGUID(s)
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return dtyp.GUID{}, err
	}
	return dtyp.GUIDFromBytes(b)
}

func parseSID(s string) (dtyp.SID, error) {
	if len(s) > 1 && s[1] == '-' {
		return dtyp.ParseSID(s)
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return dtyp.SID{}, err
	}
	return dtyp.SIDFromBytes(b)
}

// ResolveTarget finds an object by the name that a request has for it: a distinguished
// name, <GUID=…>, <SID=…> or <WKGUID=…,DN>. It fails with rows.ErrNotFound, and with an
// [Error] of InvalidDNSyntax for what is no name. Where a distinguished name leads to
// nothing, the nearest object above that exists is returned with the error, or the
// zero GUID.
func (r *Reader) ResolveTarget(name string) (dtyp.GUID, error) {
	t, err := parseTarget(name)
	if err != nil {
		return dtyp.GUID{}, err
	}
	return r.resolveTarget(t)
}

func (r *Reader) resolveTarget(t target) (dtyp.GUID, error) {
	switch {
	case !t.guid.IsZero():
		if _, err := r.table.Revision(r.r, t.guid); err != nil {
			return dtyp.GUID{}, err
		}
		return t.guid, nil
	case !t.sid.IsZero():
		return r.bySID(t.sid)
	case t.known != "":
		return r.wellKnown(t)
	}
	return r.Resolve(t.dn)
}

func (r *Reader) bySID(sid dtyp.SID) (dtyp.GUID, error) {
	for g, err := range r.Find(r.known.objectSid, sid.Bytes()) {
		return g, err
	}
	return dtyp.GUID{}, fmt.Errorf("SID %s: %w", sid, rows.ErrNotFound)
}

// wellKnown finds an object by the GUID under which another one knows it
// ([MS-ADTS] 6.1.1.4).
func (r *Reader) wellKnown(t target) (dtyp.GUID, error) {
	holder, err := r.Resolve(t.dn)
	if err != nil {
		return dtyp.GUID{}, err
	}
	e, err := r.Get(holder)
	if err != nil {
		return dtyp.GUID{}, err
	}
	for _, a := range []*schema.Attribute{r.known.wellKnownObjects, r.known.otherWellKnownObjects} {
		for _, v := range e.Values[a] {
			g, value, _ := rows.ParseReference(v)
			known, _, err := a.Syntax.SplitDN(value)
			if err != nil || !strings.EqualFold(known, t.known) {
				continue
			}
			_, err = r.table.Revision(r.r, g)
			return g, err
		}
	}
	return dtyp.GUID{}, fmt.Errorf("WKGUID %s of %s: %w", t.known, t.dn, rows.ErrNotFound)
}
