//go:build !race

package segment_test

// raced tells that the race detector is at work.
const raced = false
