package agent

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
)

// ccg writes the CCG log: what package account reports, under the name of the
// plug-in that each account is read with.
type ccg struct {
	events *event.Log // nil: none
	log    *slog.Logger

	plugins sync.Map // account.Key to origin
}

// origin is what an account's key does not tell.
type origin struct {
	domain string
	plugin event.Plugin
}

// know notes where an account comes from. It is event 1 for an account that a
// plug-in is needed for, once while the agent runs.
func (c *ccg) know(t target) {
	_, known := c.plugins.LoadOrStore(t.key, origin{t.account.Domain, t.identity.Plugin})
	if !known && t.identity.Plugin != event.Keytab {
		c.write(event.PluginInstantiated(t.identity.Plugin))
	}
}

// refused writes the event that a credential spec's failure names: 3 for a spec
// or GUID that cannot be read, 4 for a plug-in that is not registered or cannot
// be loaded.
func (c *ccg) refused(err error, s credspec.Spec) {
	f, ok := errors.AsType[*agentapi.Failure](err)
	if !ok {
		return
	}
	switch event.ID(f.EventID) {
	case event.IDSpecUnparsable:
		c.write(event.SpecUnparsable(err))
	case event.IDPluginFailed:
		var plugin event.Plugin
		if h := s.ActiveDirectoryConfig.HostAccountConfig; h != nil {
			plugin = event.Plugin(h.PluginGUID)
		}
		c.write(event.PluginFailed(plugin, err))
	}
}

func (c *ccg) origin(k account.Key) (event.Account, event.Plugin) {
	o := origin{plugin: event.Keytab, domain: k.Realm}
	if v, ok := c.plugins.Load(k); ok {
		o = v.(origin)
	}
	return event.Account{Name: k.Name, Domain: o.domain}, o.plugin
}

// Fetched is event 2.
func (c *ccg) Fetched(k account.Key) { c.write(event.Fetched(c.origin(k))) }

// Refetching is event 7.
func (c *ccg) Refetching(k account.Key) { c.write(event.Refetching(c.origin(k))) }

// Failed is event 6 for the store behind a plug-in, and event 8 otherwise.
func (c *ccg) Failed(k account.Key, err error) {
	a, plugin := c.origin(k)
	if errors.Is(err, account.ErrHost) {
		c.write(event.StoreFailed(plugin, err))
		return
	}
	c.write(event.FetchFailed(a, plugin, err))
}

func (c *ccg) write(e event.Event) {
	if c.events == nil {
		return
	}
	if err := c.events.Write(e); err != nil {
		c.log.Error("cannot write the event log", slog.Any("error", err))
	}
}
