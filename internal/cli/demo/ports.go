package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
)

// The ports of a controller, UDP and TCP alike, as gmsa dc serve has them.
var controllerPorts = []int{53, 88, 389, 464, 636, 3268, 3269}

// Offsets are chosen so that no port needs root, and that all lie below those that Linux
// takes for connections, 32768 to 60999.
const (
	minOffset = 1024
	maxOffset = 32767 - 3269
	attempts  = 100
)

// freeOffset is an offset that moves the ports of a controller to where nobody listens.
func freeOffset(ctx context.Context) (offset int, err error) {
	for range attempts {
		offset = minOffset + rand.IntN(maxOffset-minOffset)
		if err = portsFree(ctx, offset); err == nil {
			return offset, nil
		}
	}
	return 0, fmt.Errorf("there is no room for the ports of a controller: %w", err)
}

func portsFree(ctx context.Context, offset int) error {
	var listen net.ListenConfig
	for _, port := range controllerPorts {
		at := fmt.Sprintf("127.0.0.1:%d", port+offset)
		l, err := listen.Listen(ctx, "tcp", at)
		if err != nil {
			return err
		}
		_ = l.Close()
		p, err := listen.ListenPacket(ctx, "udp", at)
		if err != nil {
			return err
		}
		_ = p.Close()
	}
	return nil
}
