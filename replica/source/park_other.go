//go:build !linux

package source

import "tidemark/wal"

// Elsewhere locks belong to a process, and go with SQLite's descriptors: the pin's
// connection stays.

func (*DB) lockRest([]wal.Position) bool { return false }
func (*DB) unlockRest()                  {}
func (*DB) indexInPlace() bool           { return true }
func (*DB) alone() bool                  { return false }
