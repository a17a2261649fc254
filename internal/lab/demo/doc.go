// Package demo is the demonstration behind make demo-samba: the journey from a credential
// spec and a host's keytab to a program that logs in to a service as its gMSA, on
// real servers. It is a test, so that CI makes the journey too and what is shown is
// what is checked. Read TestTheJourney.
package demo
