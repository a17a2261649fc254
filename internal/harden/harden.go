// Package harden keeps the keys of a process that has some out of the hands of others:
// of processes of the same user, and of core files.
package harden
