// Package event is the log of the Container Credential Guard: the events that
// Windows writes to Microsoft-Windows-Containers-CCG/Admin, with Windows'
// numbers and texts, and event 4004 of the Key Distribution Service.
//
// It is for the administrator who looks for the reason of a failure, and is
// read with `gmsa events`; what a developer wants to know goes to log/slog
// instead. Constructors take names and errors only, never text made elsewhere
// or bytes, so that no password or plug-in input has a way in.
//
// Start with [Fetched], [Log] (write) and [Read], [Follow] (read).
package event

import (
	"strings"
	"time"
	"unicode"

	"github.com/opengmsa/opengmsa/dtyp"
)

// ID is Windows' number of an event. There is no event 5.
type ID int

// The events of Microsoft-Windows-Containers-CCG/Admin, and 4004 of
// Microsoft-Windows-KdsSvc/Operational.
const (
	IDPluginInstantiated ID = 1
	IDFetched            ID = 2
	IDSpecUnparsable     ID = 3
	IDPluginFailed       ID = 4
	IDStoreFailed        ID = 6
	IDRefetching         ID = 7
	IDFetchFailed        ID = 8
	IDRootKeyCreated     ID = 4004
)

// Level is the severity, in the words of the Windows event viewer.
type Level string

// The levels in use.
const (
	Information Level = "information"
	Error       Level = "error"
)

// The channels that events belong to.
const (
	ChannelCCG = "Microsoft-Windows-Containers-CCG/Admin"
	ChannelKDS = "Microsoft-Windows-KdsSvc/Operational"
)

// maxArgument bounds each argument of an event, in bytes: the text of an error
// may come from a directory server, and must not fill the log.
const maxArgument = 1024

// Account names a service account.
type Account struct {
	// Name is the sAMAccountName, with or without the dollar sign.
	Name string
	// Domain is the DNS name of the account's domain.
	Domain string
}

// String is NAME@domain without the dollar sign, or NAME where no domain is
// known.
func (a Account) String() string {
	name := strings.TrimSuffix(a.Name, "$")
	if a.Domain == "" {
		return name
	}
	return name + "@" + a.Domain
}

// Plugin is the name of a plug-in as the agent's configuration registers it;
// [Keytab] for a host that is joined to its domain.
type Plugin string

// Keytab is the plug-in's name for a host with a keytab.
const Keytab Plugin = "keytab"

// Event is one entry of the log. Its JSON form is one line of the file; fields
// are only ever added to it.
type Event struct {
	Time    time.Time `json:"time"`
	Channel string    `json:"channel"`
	ID      ID        `json:"id"`
	Level   Level     `json:"level"`
	// Message is the text of the event with its arguments in place.
	Message string `json:"message"`
	// Account, Plugin, RootKey and Reason are those arguments, each where the
	// event has it. Account is in the form of [Account.String].
	Account string `json:"account,omitempty"`
	Plugin  string `json:"plugin,omitempty"`
	RootKey string `json:"rootKey,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// PluginInstantiated is event 1: the plug-in of a credential spec is registered
// and could be loaded.
func PluginInstantiated(p Plugin) Event {
	return Event{
		ID: IDPluginInstantiated, Channel: ChannelCCG, Level: Information, Plugin: clean(string(p)),
		Message: "Container Credential Guard instantiated the plug-in",
	}
}

// Fetched is event 2: the directory released the password of a.
func Fetched(a Account, p Plugin) Event {
	e := Event{ID: IDFetched, Channel: ChannelCCG, Level: Information, Account: clean(a.String()), Plugin: clean(string(p))}
	e.Message = "Container Credential Guard fetched gmsa credentials for " + e.Account + " using plug-in: " + e.Plugin
	return e
}

// SpecUnparsable is event 3: a credential spec is malformed, or its plug-in's
// GUID is.
func SpecUnparsable(reason error) Event {
	e := Event{ID: IDSpecUnparsable, Channel: ChannelCCG, Level: Error, Reason: clean(reason.Error())}
	e.Message = "Container Credential Guard failed to parse the credential spec. Error: " + e.Reason
	return e
}

// PluginFailed is event 4: the plug-in is not registered, or cannot be loaded.
func PluginFailed(p Plugin, reason error) Event {
	e := Event{ID: IDPluginFailed, Channel: ChannelCCG, Level: Error, Plugin: clean(string(p)), Reason: clean(reason.Error())}
	e.Message = "Container Credential Guard failed to instantiate the plug-in: " + e.Plugin + ". Error: " + e.Reason
	return e
}

// StoreFailed is event 6: the plug-in is there, but the store behind it does
// not give the host's credentials.
func StoreFailed(p Plugin, reason error) Event {
	e := Event{ID: IDStoreFailed, Channel: ChannelCCG, Level: Error, Plugin: clean(string(p)), Reason: clean(reason.Error())}
	e.Message = "Container Credential Guard failed to fetch credentials from the plug-in: " + e.Plugin + ". Error: " + e.Reason
	return e
}

// Refetching is event 7: the account's password has expired and is read again
// with the credentials that the plug-in gives.
func Refetching(a Account, p Plugin) Event {
	e := Event{ID: IDRefetching, Channel: ChannelCCG, Level: Information, Account: clean(a.String()), Plugin: clean(string(p))}
	e.Message = "Container Credential Guard is refetching the credentials using the plug-in: " + e.Plugin
	return e
}

// FetchFailed is event 8: the directory refuses the password of a to the
// host's identity, or cannot be asked.
func FetchFailed(a Account, p Plugin, reason error) Event {
	e := Event{
		ID: IDFetchFailed, Channel: ChannelCCG, Level: Error,
		Account: clean(a.String()), Plugin: clean(string(p)), Reason: clean(reason.Error()),
	}
	e.Message = "Container Credential Guard failed to fetch gmsa credentials for " + e.Account +
		" using plugin " + e.Plugin + ". Error reason: " + e.Reason
	return e
}

// RootKeyCreated is event 4004 of the Key Distribution Service, written by
// whoever made the root key. The two spaces are Windows' own.
func RootKeyCreated(key dtyp.GUID) Event {
	e := Event{ID: IDRootKeyCreated, Channel: ChannelKDS, Level: Information, RootKey: key.String()}
	e.Message = "Group Key Distribution Service created a master root key in AD.  The key ID is " + e.RootKey + "."
	return e
}

// clean makes s printable and at most maxArgument bytes long.
func clean(s string) string {
	s = strings.TrimSpace(printable(s))
	if len(s) > maxArgument {
		s = strings.ToValidUTF8(s[:maxArgument-len("…")], "") + "…"
	}
	return s
}

// printable makes s one line of printable text: what a server or a spec's
// author wrote must not forge a second entry or steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsGraphic(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
