package locate_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
)

func TestSambaIsFoundByEveryWay(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{IPv6: true})
	dns := &locate.DNS{Servers: []string{dc.DNS()}}
	for way, cfg := range map[string]locate.Config{
		"DNS":                {Resolver: dns},
		"DNS, site given":    {Resolver: dns, Site: "Default-First-Site-Name"},
		"DNS, unknown site":  {Resolver: dns, Site: "Nowhere"},
		"address":            {Servers: []string{dc.IP.String()}},
		"address and port":   {Servers: []string{dc.IP.String() + ":389"}},
		"IPv6":               {Servers: []string{"[" + dc.IP6.String() + "]:389"}},
		"name":               {Servers: []string{lab.DCHost}, Resolver: dns},
		"TCP where UDP dies": {Servers: []string{dc.IP.String()}, Dial: withoutUDP},
	} {
		cfg.Domain = "Contoso.COM."
		l, err := locate.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		list, err := l.Controllers(t.Context(), locate.GMSA)
		if err != nil {
			t.Errorf("%s: %v", way, err)
			continue
		}
		c := list[0]
		if c.Name != lab.DCHost || c.NetBIOSDomain != lab.NetBIOSDomain || c.NetBIOSName != "DC1" || c.Domain != lab.DNSDomain || c.Forest != lab.DNSDomain ||
			c.DomainGUID.String() != lab.DomainGUID || c.Site != "Default-First-Site-Name" || !strings.HasSuffix(c.Endpoint(locate.Kpasswd), ":464") {
			t.Errorf("%s: %+v", way, c)
		}
	}
	l, err := locate.New(locate.Config{Domain: "fabrikam.com", Servers: []string{dc.IP.String()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Controllers(t.Context(), locate.Any); !errors.Is(err, locate.ErrNoController) {
		t.Errorf("another domain: %v", err)
	}
}

// withoutUDP is a network that drops datagrams.
func withoutUDP(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "udp" {
		address = "127.0.0.1:9"
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

func TestPausedSambaIsNotWaitedFor(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	l, err := locate.New(locate.Config{Domain: lab.DNSDomain, Servers: []string{dc.IP.String()}, PingTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	dc.Pause(t)
	start := time.Now()
	if _, err := l.Controllers(t.Context(), locate.Any); !errors.Is(err, locate.ErrNoController) || time.Since(start) > 1500*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	dc.Resume(t)
	if _, err := l.Controllers(t.Context(), locate.Any); err != nil {
		t.Error(err)
	}
}
