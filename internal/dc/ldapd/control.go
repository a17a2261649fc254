package ldapd

import (
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// options are what the controls of a request ask for.
type options struct {
	sdFlags     int
	hasSDFlags  bool
	extendedDN  directory.ExtendedDN
	showDeleted bool
	tree        bool
	permissive  bool

	paged *ldapmsg.Paged // nil: no pages
	sort  []ldapmsg.SortKey
	// sortCritical says that a search that cannot be sorted so must fail.
	sortCritical bool
}

// A control is a control that is honoured: [MS-ADTS] 3.1.1.3.4.1.
type control struct {
	oid string
	// ops are the operations that it means something to; none: all.
	ops []ldapmsg.Op
	// set notes what it asks for; nil: nothing differs here.
	set func(*options, ldapmsg.Control) error
}

// controls are all that are honoured, and so supportedControl of the rootDSE.
//
// Some ask for nothing that would not be done anyway. ManageDsaIT and domain scope
// forbid references among the entries that are found, and none are ever sent. Lazy commit allows an answer before the
// change is on disk. There is no recycle bin: tombstones are all that is deleted, and
// no link is kept deactivated, so that the two controls about them add nothing.
var controls = []control{
	{oid: adproto.ControlManageDsaIT},
	{adproto.ControlPaged, onSearch, setPaged},
	{adproto.ControlSort, onSearch, setSort},
	{oid: adproto.ControlSortResponse, ops: onSearch},
	{adproto.ControlShowDeleted, onSearch, setShowDeleted},
	{adproto.ControlShowRecycled, onSearch, setShowDeleted},
	{oid: adproto.ControlDeactivatedLinks, ops: onSearch},
	{adproto.ControlExtendedDN, onSearch, setExtendedDN},
	{oid: adproto.ControlLazyCommit, ops: onChange},
	{adproto.ControlSDFlags, []ldapmsg.Op{ldapmsg.OpSearchRequest, ldapmsg.OpModifyRequest}, setSDFlags},
	{adproto.ControlTreeDelete, onDelete, setTree},
	{adproto.ControlPermissiveModify, onModify, setPermissive},
	{oid: adproto.ControlDomainScope, ops: onSearch},
}

// What controls mean something to.
var (
	onSearch = []ldapmsg.Op{ldapmsg.OpSearchRequest}
	onModify = []ldapmsg.Op{ldapmsg.OpModifyRequest}
	onDelete = []ldapmsg.Op{ldapmsg.OpDelRequest}
	onChange = []ldapmsg.Op{ldapmsg.OpAddRequest, ldapmsg.OpModifyRequest, ldapmsg.OpDelRequest, ldapmsg.OpModifyDNRequest}
)

func setShowDeleted(o *options, _ ldapmsg.Control) error { o.showDeleted = true; return nil }
func setTree(o *options, _ ldapmsg.Control) error        { o.tree = true; return nil }
func setPermissive(o *options, _ ldapmsg.Control) error  { o.permissive = true; return nil }

func setPaged(o *options, c ldapmsg.Control) error {
	p, err := ldapmsg.ParsePaged(c.Value)
	o.paged = &p
	return err
}

func setSort(o *options, c ldapmsg.Control) (err error) {
	o.sort, err = ldapmsg.ParseSort(c.Value)
	o.sortCritical = c.Critical
	return err
}

// setExtendedDN takes the control without a value too, which asks for the
// hexadecimal form.
func setExtendedDN(o *options, c ldapmsg.Control) error {
	o.extendedDN = directory.ExtendedHex
	if c.Value == nil {
		return nil
	}
	flag, err := ldapmsg.ParseFlags(c.Value)
	switch {
	case err != nil:
		return err
	case flag == 1:
		o.extendedDN = directory.ExtendedTexts
	case flag != 0:
		return fmt.Errorf("extended DN control with flag %d", flag)
	}
	return nil
}

// setSDFlags takes the control without a value as one that asks for all parts.
func setSDFlags(o *options, c ldapmsg.Control) (err error) {
	o.hasSDFlags, o.sdFlags = true, adproto.SDOwner|adproto.SDGroup|adproto.SDDACL|adproto.SDSACL
	if c.Value != nil {
		o.sdFlags, err = ldapmsg.ParseFlags(c.Value)
	}
	return err
}

// readControls finds what the controls of a request ask for. A critical one that is
// unknown, or means nothing to the operation, fails it: RFC 4511, Section 4.1.11.
func readControls(m ldapmsg.Message) (o options, err error) {
	for _, c := range m.Controls {
		i := slices.IndexFunc(controls, func(k control) bool { return k.oid == c.Type })
		if i < 0 || controls[i].ops != nil && !slices.Contains(controls[i].ops, m.Op) {
			if !c.Critical {
				continue
			}
			return o, fail(unavailableCriticalExtension, 0x2040, "the control "+c.Type+" is critical and not available here") // ERROR_DS_NOT_SUPPORTED, which AD gives here
		}
		if set := controls[i].set; set != nil {
			if err := set(&o, c); err != nil {
				return o, malformed(err)
			}
		}
	}
	return o, nil
}

// malformed is the result of a request whose content cannot be read.
func malformed(err error) *failure {
	f := fail(protocolError, 0x57, "the request is malformed") // ERROR_INVALID_PARAMETER
	f.err = err
	return f
}
