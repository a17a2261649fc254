package agent

import (
	"errors"
	"log/slog"
	"sync"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/plugin"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
)

// ccg writes the CCG log: what package account reports, under the name of the
// plug-in that each account is read with.
type ccg struct {
	events *event.Log // nil: none
	log    *slog.Logger

	plugins sync.Map // account.Key to origin
	loaded  sync.Map // source to whether event 1 told of it
	asked   sync.Map // account.Key of those that somebody installs right now
}

// origin is what an account's key does not tell.
type origin struct {
	domain string
	plugin event.Plugin
}

// source is one plug-in as one identity uses it.
type source struct {
	plugin event.Plugin
	host   string
}

// know notes where an account comes from.
func (c *ccg) know(t target) {
	c.plugins.Store(t.key, origin{t.account.Domain, t.identity.Plugin})
}

func (c *ccg) origin(k account.Key) (event.Account, event.Plugin) {
	o := origin{plugin: event.Keytab, domain: k.Realm}
	if v, ok := c.plugins.Load(k); ok {
		o = v.(origin)
	}
	return event.Account{Name: k.Name, Domain: o.domain}, o.plugin
}

// instantiated is event 1, once until the plug-in cannot be loaded any more. A joined
// host needs none.
func (c *ccg) instantiated(k account.Key, p event.Plugin) {
	if p == event.Keytab {
		return
	}
	if _, told := c.loaded.LoadOrStore(source{p, k.Host}, true); !told {
		c.write(event.PluginInstantiated(p))
	}
}

// installing says until done that somebody installs an account: that the host has no
// password of a standalone one yet is what they ask about, and no failure.
func (c *ccg) installing(k account.Key) (done func()) {
	c.asked.Store(k, true)
	return func() { c.asked.Delete(k) }
}

// Fetched is event 2.
func (c *ccg) Fetched(k account.Key) {
	a, plugin := c.origin(k)
	c.instantiated(k, plugin)
	c.write(event.Fetched(a, plugin))
}

// Refetching is event 7.
func (c *ccg) Refetching(k account.Key) { c.write(event.Refetching(c.origin(k))) }

// Failed is event 4 for a plug-in that cannot be loaded, 6 for the store behind
// it, and 8 otherwise.
func (c *ccg) Failed(k account.Key, err error) {
	if _, asked := c.asked.Load(k); asked && errors.Is(err, account.ErrNotInstalled) {
		return
	}
	a, name := c.origin(k)
	if errors.Is(err, plugin.ErrLoad) {
		c.loaded.Delete(source{name, k.Host})
		c.write(event.PluginFailed(name, err))
		return
	}
	c.instantiated(k, name)
	if errors.Is(err, account.ErrStore) {
		c.write(event.StoreFailed(name, err))
		return
	}
	c.write(event.FetchFailed(a, name, err))
}

// unresolved is event 3 or 4 for a credential spec whose plug-in's GUID is malformed or
// not registered; other failures are the caller's alone.
func (c *ccg) unresolved(s credspec.Spec, err error) {
	f, ok := errors.AsType[*agentapi.Failure](err)
	host := s.ActiveDirectoryConfig.HostAccountConfig
	switch {
	case !ok || host == nil:
	case f.EventID == uint32(event.IDSpecUnparsable):
		c.write(event.SpecUnparsable(err))
	case f.EventID == uint32(event.IDPluginFailed):
		c.write(event.PluginFailed(event.Plugin(host.PluginGUID), err))
	}
}

func (c *ccg) write(e event.Event) {
	if c.events == nil {
		return
	}
	if err := c.events.Write(e); err != nil {
		c.log.Error("cannot write the event log", slog.Any("error", err))
	}
}
