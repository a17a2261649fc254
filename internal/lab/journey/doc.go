// Package journey is the test that every container engine takes: with a real domain and
// real services, what runs in a container is the gMSA that its credential spec names,
// from its start over a rotation of the password to its end. Read TestTheJourney, and
// engine in engines_linux_test.go for what one more engine needs.
package journey
