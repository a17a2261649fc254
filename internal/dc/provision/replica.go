package provision

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/secdesc"
)

// instanceType of what the global catalog has of another domain: [MS-ADTS] 2.2.15.
const (
	replicaHead   = "9" // IT_NC_HEAD, IT_NC_ABOVE
	replicaObject = "0"
)

// replicaDescriptor is the head's: who has authenticated may read, as in every domain.
const replicaDescriptor = "D:(A;;LCRPLORC;;;AU)(A;CI;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;EA)(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;SY)"

// Replica writes what the global catalog has of another domain of the forest, below this
// one, into a directory: records of RFC 2849 without base64, parents first, which are the
// head of that domain with its objectSid, objects of it, and its cross-reference below
// CN=Partitions. Nobody keeps them up to date: there is no replication, and the domain has
// no controller of ours. It is how a forest of several domains is made for a test.
func Replica(ctx context.Context, d *directory.Directory, records string, rand io.Reader) error {
	b, err := newBuilder(d, rand)
	if err != nil {
		return err
	}
	objects, err := parseTemplate(records)
	if err != nil {
		return err
	}
	if len(objects) == 0 || objects[0].value("objectClass") != "domainDNS" {
		return errors.New("replica: the first record is not the head of a domain")
	}
	objects[0].add("nTSecurityDescriptor", replicaDescriptor)
	head := objects[0]
	sid, err := dtyp.ParseSID(head.value("objectSid"))
	if err != nil {
		return fmt.Errorf("replica: %s: %w", head.dn, err)
	}
	partitions := adproto.NewDN("CN", "Partitions", d.Domain().ConfigurationDN())
	if err := b.find(ctx, d.Domain().DN(), partitions); err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	for _, o := range objects {
		if b.domain = d.Domain().SID; o.dn.Within(head.dn) {
			b.domain = sid
			o.add("instanceType", replicaType(o.dn, head.dn))
		}
		if err := b.add(o); err != nil {
			return fmt.Errorf("replica: %s: %w", o.dn, err)
		}
	}
	if err := b.refer(); err != nil {
		return fmt.Errorf("replica: %w", err)
	}
	return b.write(ctx)
}

func replicaType(dn, head adproto.DN) string {
	if dn.EqualFold(head) {
		return replicaHead
	}
	return replicaObject
}

// find lets new entries lie below objects that the directory has.
func (b *builder) find(ctx context.Context, names ...adproto.DN) error {
	descriptor, ok := b.d.Schema().Attribute("nTSecurityDescriptor")
	if !ok {
		return errors.New("the schema has no attribute nTSecurityDescriptor")
	}
	return b.d.View(ctx, func(r *directory.Reader) error {
		for _, dn := range names {
			g, err := r.Resolve(dn)
			if err != nil {
				return err
			}
			e, err := r.Get(g)
			if err != nil {
				return err
			}
			sd, err := secdesc.Parse(e.Values[descriptor][0])
			if err != nil {
				return fmt.Errorf("%s: %w", dn, err)
			}
			b.byName[key(dn.String())] = &entry{Entry: e, sd: &sd}
		}
		return nil
	})
}
