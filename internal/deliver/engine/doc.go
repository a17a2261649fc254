// Package engine sets up the container engines of a host for the identities of gMSAs:
// what gmsa runtime install writes, shows and undoes.
//
// It changes files and asks engines for their version and for the configuration that is
// in effect; it starts, restarts and reloads none. What an engine would do with a container
// is judged by that configuration and not by a version, because an engine that ignores
// the device of package cdi starts the container without its identity: such an engine
// is refused ([Refusal]).
//
// Read [Host.Plan] first, then [Host.Apply] and [Host.Undo].
package engine
