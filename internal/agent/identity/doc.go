// Package identity is who this host is to its domains: its computer account from
// a keytab or a password, or a user that a plug-in yields. Behind each identity
// stands a session with the domain (package ad), through which package account
// reads managed passwords and authenticates with them.
//
// It keeps the computer's own password current where the agent owns the keytab,
// and leaves it alone where sssd or winbind does.
package identity
