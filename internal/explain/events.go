package explain

import (
	"errors"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/event"
)

// loggedEvent is an event and what its guide says of it.
type loggedEvent struct {
	event.Event
	// begins is the text ahead of its first argument, by which a line of the log is known.
	begins string
	cause  string
	next   []string
	source string
}

// guideTable is where the events of the Container Credential Guard are described.
const guideTable = "Troubleshoot gMSAs for Windows containers, Events and Descriptions"

// events are those of package event, with their arguments as the guide has them.
func events() []loggedEvent {
	account, one, two, three := event.Account{Name: "%1"}, event.Plugin("%1"), event.Plugin("%2"), errors.New("%3")
	second := errors.New("%2")
	created := event.RootKeyCreated(dtyp.GUID{})
	created.Message = "Group Key Distribution Service created a master root key in AD.  The key ID is %1."
	return []loggedEvent{
		{
			event.PluginInstantiated(one), "Container Credential Guard instantiated the plug-in",
			"the plug-in that the credential spec names is installed and was loaded: nothing to do", nil, guideTable,
		}, {
			event.Fetched(account, two), "Container Credential Guard fetched gmsa credentials for",
			"the directory gave the password out: nothing to do", nil, guideTable,
		}, {
			event.SpecUnparsable(errors.New("%1")), "Container Credential Guard failed to parse the credential spec",
			"the GUID of the plug-in is wrong, or another field of the credential spec is malformed",
			[]string{"gmsa credspec check FILE", "gmsa doctor --spec NAME"}, guideTable,
		}, {
			event.PluginFailed(one, second), "Container Credential Guard failed to instantiate the plug-in",
			"no plug-in of this GUID is installed on the host, or it cannot be loaded",
			[]string{"gmsa agent check-config", "gmsa doctor --spec NAME", "gmsa events --id 4"}, guideTable,
		}, {
			event.StoreFailed(one, second), "Container Credential Guard failed to fetch credentials from the plug-in",
			"the plug-in was loaded and its store did not answer: PluginInput is malformed, or this host may not read the secret",
			[]string{"gmsa doctor --spec NAME", "gmsa agent status", "gmsa events --id 6"}, guideTable,
		}, {
			event.Refetching(account, one), "Container Credential Guard is refetching the credentials using the plug-in",
			"the password of the gMSA has expired and is fetched anew: nothing to do", nil, guideTable,
		}, {
			event.FetchFailed(account, two, three), "Container Credential Guard failed to fetch gmsa credentials for",
			"the account that the plug-in gave, or the host, may not retrieve the password of the gMSA",
			[]string{"gmsa account hosts list ACCOUNT", "gmsa account hosts add ACCOUNT HOST", "gmsa doctor ACCOUNT"}, guideTable,
		}, {
			created, "Group Key Distribution Service created a master root key in AD",
			"somebody made a KDS root key: it serves from its effective time on, once every controller has it",
			[]string{"gmsa kds list", "gmsa kds test KEY-ID"}, "Get started with Group Managed Service Accounts",
		},
	}
}
