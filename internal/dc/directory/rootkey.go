package directory

import (
	"context"

	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/secret"
)

// mayRootKey reports whether the caller may make and change root keys: Enterprise
// Admins, on a connection that nobody else reads.
func (c *change) mayRootKey() error {
	if err := c.require(c.isEnterpriseAdministrator(), "root keys are the Enterprise Admins'"); err != nil {
		return err
	}
	if !c.caller.Encrypted && !c.caller.Controller {
		return Errorf(ConfidentialityRequired, Win32Confidentiality, "root keys are written on an encrypted connection only")
	}
	return nil
}

// storeRootKey judges a new root key, whoever made it, and keeps its data in a private
// row. A key that nobody can derive from is refused now and not at the first rollover
// that needs it.
func (a *addition) storeRootKey() error {
	if err := a.mayRootKey(); err != nil {
		return err
	}
	defer a.rootKey.Destroy()
	key, err := kds.ParseProvRootKey(a.rootKeyValues)
	if err != nil {
		return &Error{Code: ConstraintViolation, Win32: Win32Constraint, Message: "nothing can be derived from that root key", Err: err}
	}
	defer key.Key.Destroy()
	founding, err := a.isFounding(key)
	if err != nil {
		return err
	}
	a.kinds = append(a.kinds, audit.KindRootKeyCreated)
	if founding {
		if err := a.SetPrivate(a.e.GUID, PrivateFounding, secret.New([]byte{1})); err != nil {
			return err
		}
	}
	return a.SetPrivate(a.e.GUID, PrivateRootKey, key.Key)
}

// rootKeyValues are the values of the new root key's attributes.
func (a *addition) rootKeyValues(name string) [][]byte {
	at := a.mustAttribute(name)
	switch {
	case at == a.known.rootKeyData && a.rootKey.Len() > 0:
		return [][]byte{a.rootKey.Reveal()}
	case at == a.e.RDN:
		return [][]byte{[]byte(a.e.Name)}
	}
	return rows.AsWritten(at, a.e.Values[at])
}

// isFounding reports whether a root key is the first of a domain that never had a gMSA:
// nobody's password can change by it, so that it may serve at once. It fails where the
// domain has a key of that id already.
func (a *addition) isFounding(key kds.ProvRootKey) (bool, error) {
	keys, err := a.RootKeys()
	if err != nil {
		return false, err
	}
	for _, k := range keys {
		if k.ID == key.ID {
			return false, Errorf(EntryAlreadyExists, Win32ObjectExists, "the domain has the root key %s already", key.ID)
		}
	}
	for _, class := range []string{classRootKey, classGMSA} {
		for _, err := range a.Find(a.known.objectClass, []byte(class)) {
			return false, err
		}
	}
	return true, nil
}

// checkRootKeyChange refuses to change what passwords are derived from: those in force
// would change with it.
func (m *modification) checkRootKeyChange(a *schema.Attribute) error {
	switch {
	case m.isRootKey():
		if err := m.mayRootKey(); err != nil {
			return err
		}
	case a != m.known.rootKeyData:
		return nil
	}
	switch a.Name {
	case "msKds-Version", "msKds-RootKeyData", "msKds-KDFAlgorithmID", "msKds-KDFParam":
		return unwilling("%s of a root key never changes: make another key", a.Name)
	}
	return nil
}

// rootKeysChanged makes good what follows from another set of root keys. Where one is gone,
// passwords that were to come from it are given another at once: a timeline has decided its
// next period long before, and one that nobody was told of may begin before timelines are
// looked through again.
func (d *Directory) rootKeysChanged(ctx context.Context) error {
	gone, err := d.reloadRing(ctx)
	if err != nil || !gone {
		return err
	}
	return d.RefreshTimelines(ctx)
}

// forget drops what was derived from root keys that are gone, and reports whether there
// are any.
func (d *Directory) forget(was, is *kds.Ring) (gone bool) {
	if was == nil {
		return false
	}
	left := map[string]bool{}
	for _, k := range is.Keys() {
		left[k.ID.String()] = true
	}
	for _, k := range was.Keys() {
		if !left[k.ID.String()] {
			d.cache.Forget(k.ID)
			gone = true
		}
	}
	return gone
}
