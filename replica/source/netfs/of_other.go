//go:build !linux && !darwin && !windows

package netfs

// Of is Local on a system whose file systems tidemark can't tell apart.
func Of(string) (Kind, error) { return Local, nil }
