//go:build race

package agent

// raceDetector: memory is several times what it is without.
const raceDetector = true
