package provision

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/secret"
)

// Passwords gives accounts their keys, inside of the transaction that writes them.
// Package account has it.
type Passwords interface {
	Set(w *directory.Writer, e *rows.Entry, p directory.NewPassword) error
	// RandomKeys gives an account keys that no password leads to. As Set does, it writes
	// the private rows of the account, and pwdLastSet into e.
	RandomKeys(w *directory.Writer, e *rows.Entry) error
}

// Config is what a domain is made with.
type Config struct {
	// Passwords keeps the keys of accounts. Required.
	Passwords Passwords
	// AdminPassword is Administrator's, in UTF-16LE. Required.
	AdminPassword secret.Bytes
	// NoRootKey leaves the domain without a KDS root key. Otherwise it has one that can be
	// used at once, which is right as long as there is no other controller that would have
	// to learn of it first.
	NoRootKey bool
	// Aliases are host names that the controller has beside its own.
	Aliases []string
	// Rand gives random bytes. Required.
	Rand io.Reader
}

// Objects writes the objects of a new domain into an empty directory. It takes several
// updates: a directory in which it failed is of no use, and neither is one whose
// controller ended meanwhile.
func Objects(ctx context.Context, d *directory.Directory, cfg Config) error {
	b, err := newBuilder(d, cfg.Rand)
	if err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	objects, err := domainObjects(d.Domain(), b.variables)
	if err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	for _, o := range objects {
		if o.value("objectClass") == "computer" {
			for _, host := range cfg.Aliases {
				o.add("servicePrincipalName", "HOST/"+host)
				o.add("servicePrincipalName", "ldap/"+host)
			}
		}
		if err := b.add(o); err != nil {
			return fmt.Errorf("make domain: %s: %w", o.dn, err)
		}
	}
	if !cfg.NoRootKey {
		if err := b.addRootKey(cfg.Rand); err != nil {
			return fmt.Errorf("make domain: root key: %w", err)
		}
	}
	if err := b.refer(); err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	b.giveKeys(cfg)
	if err := b.write(ctx); err != nil {
		return fmt.Errorf("make domain: %w", err)
	}
	return nil
}

// seedAge is how long before its creation the first root key could have been used: one
// key cycle, so that it serves the interval of 10 h that the domain is made in. It is what
// Microsoft's guide does by hand for a lab with one controller.
const seedAge = gkdi.Cycle

// addRootKey makes the key with which the domain begins. Deviation: Domain Admins may
// remove it, as in AD, but not read or change it.
func (b *builder) addRootKey(rand io.Reader) error {
	now := dtyp.FiletimeOf(b.d.Now())
	key, err := gkdi.NewRootKey(rand, now, now-seedAge)
	if err != nil {
		return err
	}
	domain := b.d.Domain()
	controller := adproto.NewDN("CN", strings.ToUpper(domain.Host), adproto.NewDN("OU", "Domain Controllers", domain.DN()))
	parent, err := adproto.ParseDN("CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services," + domain.ConfigurationDN().String())
	if err != nil {
		return err
	}
	o := object{dn: adproto.NewDN("CN", key.ID.String(), parent), attributes: []attribute{
		{"objectClass", "msKds-ProvRootKey"},
		{"nTSecurityDescriptor", "O:EAG:EAD:P(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;EA)(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;SY)(A;;LCRPLORCSD;;;DA)"},
	}}
	for _, a := range kds.NewProvRootKey(key, controller.String()).Attributes() {
		if a.Name != "cn" && a.Name != directory.PrivateRootKey {
			o.attributes = append(o.attributes, attribute{a.Name, string(a.Value)})
		}
	}
	if err := b.add(o); err != nil {
		return err
	}
	b.entries[len(b.entries)-1].before = func(w *directory.Writer, e *rows.Entry) error {
		return errors.Join(
			w.SetPrivate(e.GUID, directory.PrivateRootKey, key.Key),
			w.SetPrivate(e.GUID, directory.PrivateFounding, secret.New([]byte{1})))
	}
	return nil
}

// privateRows is how many rows of its own an account's keys may take in a transaction.
const privateRows = 8

// rowsPerUpdate is how many rows of entries one update writes: with their descriptors
// some 50 KiB, of the megabyte that a transaction may have.
const rowsPerUpdate = 256

// write stores entries in few updates, then the links between them.
func (b *builder) write(ctx context.Context) error {
	d := b.d
	for rest := b.entries; len(rest) > 0; {
		n, ops := 0, 0
		for n < len(rest) && ops+rest[n].rows() <= rowsPerUpdate {
			ops += rest[n].rows()
			n++
		}
		if err := d.Update(ctx, func(w *directory.Writer) error { return insert(w, rest[:n]) }); err != nil {
			return err
		}
		rest = rest[n:]
	}
	for rest := b.links; len(rest) > 0; {
		n := min(len(rest), rowsPerUpdate/2)
		err := d.Update(ctx, func(w *directory.Writer) error { return b.link(w, rest[:n]) })
		if err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func insert(w *directory.Writer, entries []*entry) error {
	for _, e := range entries {
		stored := e.Clone() // an update may run twice
		if e.before != nil {
			if err := e.before(w, stored); err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
		}
		if err := w.Insert(stored); err != nil {
			return fmt.Errorf("%s: %w", e.Name, err)
		}
	}
	return nil
}

// giveKeys says which accounts get a password or keys, and lets the controller's own
// account take the first RID that is given out.
func (b *builder) giveKeys(cfg Config) {
	controller := strings.ToUpper(b.d.Domain().Host) + "$"
	for _, e := range b.entries {
		switch e.account {
		case "Administrator":
			e.before = func(w *directory.Writer, e *rows.Entry) error {
				return cfg.Passwords.Set(w, e, directory.NewPassword{Password: cfg.AdminPassword, Initial: true})
			}
		case "krbtgt":
			e.before = cfg.Passwords.RandomKeys
		case controller:
			e.before = func(w *directory.Writer, e *rows.Entry) error {
				sid, err := w.NextSID()
				if err == nil && sid.RID() != dtyp.RIDFirstAllocated {
					err = errors.New("the directory has given out RID " + strconv.Itoa(dtyp.RIDFirstAllocated) + " before")
				}
				return errors.Join(err, cfg.Passwords.RandomKeys(w, e))
			}
		}
	}
}
