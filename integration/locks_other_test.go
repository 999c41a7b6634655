//go:build !linux

package integration_test

import "testing"

// canTell tells whether handingOff can.
const canTell = false

// handingOff would say so; here any moment will do.
func handingOff(*testing.T, int, string) bool { return true }
