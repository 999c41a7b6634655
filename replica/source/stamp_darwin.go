package source

import (
	"os"
	"syscall"
)

// identity gives a file's number and the time of its last change.
func identity(info os.FileInfo) (file uint64, changed int64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return st.Ino, st.Ctimespec.Nano()
}
