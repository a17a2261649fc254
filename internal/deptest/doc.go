// Package deptest holds the rules on who may import whom, as tests. It has no code
// of its own: read rules_test.go, which gives each rule with its reason.
package deptest
