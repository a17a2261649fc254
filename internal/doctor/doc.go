// Package doctor finds out why a host, a container or an administrator cannot use a
// group managed service account: the troubleshooting guide for gMSAs as checks.
//
// A [Check] asks one question, names the checks whose answer it needs, and gives
// findings: what is so, the evidence, and the command that would mend it. [Run] asks
// all of them side by side. A check whose precondition failed is skipped with the
// reason, so that one fault is one error and stands first.
//
// The package changes nothing anywhere, prints nothing and keeps no secret. What it
// knows of the agent's configuration, its plug-ins and its leases is handed to it in
// [Config], because the agent is a service beside it. Read [Run] and [Checks] first;
// docs/doctor.md is made of the registry.
package doctor
