//go:build unix

package fleet

import (
	"io/fs"
	"syscall"
)

// identity tells files from one another, whatever their names. The zero value is
// not known.
type identity struct{ device, inode uint64 }

func identify(info fs.FileInfo) identity {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}
	}
	return identity{device: uint64(st.Dev), inode: uint64(st.Ino)} //nolint:gosec,unconvert,nolintlint // the types differ between systems
}
