package kclient

import (
	"context"
	"errors"
	"net"
)

// KDC is a controller to ask.
type KDC struct {
	// Host is its name, for messages to people.
	Host string
	// Kerberos and Kpasswd are address and port of the two services, as Dial
	// takes them.
	Kerberos, Kpasswd string
}

// String is the name, and the address if it says more.
func (k KDC) String() string {
	if k.Host == "" || k.Host == k.Kerberos {
		return k.Kerberos
	}
	return k.Host + " (" + k.Kerberos + ")"
}

// KDCs knows the controllers of the realm.
type KDCs interface {
	// KDCs returns at least one controller, best first. It is called once for
	// each request, by any goroutine, and should answer from memory.
	KDCs(ctx context.Context) ([]KDC, error)
	// Failed is told of a controller that did not answer, or so late that
	// another one was faster.
	Failed(KDC)
}

// Static is a fixed list of controllers, best first.
type Static []KDC

// StaticKDCs makes a [Static] of hosts or addresses with the standard ports 88
// and 464.
func StaticKDCs(hosts ...string) Static {
	var s Static
	for _, h := range hosts {
		s = append(s, KDC{Host: h, Kerberos: net.JoinHostPort(h, "88"), Kpasswd: net.JoinHostPort(h, "464")})
	}
	return s
}

// KDCs returns the list.
func (s Static) KDCs(context.Context) ([]KDC, error) {
	if len(s) == 0 {
		return nil, errors.New("no controller is configured")
	}
	return s, nil
}

// Failed does nothing.
func (Static) Failed(KDC) {}
