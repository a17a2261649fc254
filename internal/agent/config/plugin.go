package config

import "github.com/opengmsa/opengmsa/internal/agent/plugin"

// Plugin is a source of portable identities: an account that may read managed
// passwords, for hosts that are not joined to the domain. Its keys and kinds
// are documented there.
type Plugin = plugin.Config
