//go:build race

package domaintest_test

// raceDetector: everything takes several times what it does without.
const raceDetector = true
