//go:build !linux

package source

import "os"

// Without a way to ask what the cache holds nothing is dropped from it: that could be
// the application's.
func readNothingAhead(*os.File) {}

func uncached(*os.File, extent) []extent { return nil }

func uncache(*os.File, []extent) {}
