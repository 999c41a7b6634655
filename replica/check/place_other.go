//go:build unix && !linux && !darwin && !freebsd

package check

import "errors"

// freeSpace can't be told here.
func freeSpace(string) (int64, error) { return 0, errors.ErrUnsupported }
