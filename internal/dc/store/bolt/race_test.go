//go:build race

package bolt

// raceDetector: memory is several times what it is without.
const raceDetector = true
