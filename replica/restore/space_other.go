//go:build !linux

package restore

import "os"

// reserve is for Linux.
func reserve(*os.File, int64) error { return nil }

// startWriteback is for Linux.
func startWriteback(*os.File, int64, int64) {}
