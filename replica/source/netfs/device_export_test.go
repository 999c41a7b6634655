//go:build linux

package netfs

// Device is device.
func Device(path string) (string, error) { return device(path) }
