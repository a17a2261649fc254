//go:build !race

package domaintest_test

// raceDetector: times are what a user's tests see.
const raceDetector = false
