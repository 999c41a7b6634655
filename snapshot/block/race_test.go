//go:build race

package block_test

// raced tells that the race detector is at work.
const raced = true
