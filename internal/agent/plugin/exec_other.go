//go:build !unix

package plugin

import "context"

// run refuses: without users and sessions the contract cannot be kept.
func (p *execPlugin) run(context.Context, []byte, *limited, *limited) error {
	return unixOnly("programs as plug-ins")
}
