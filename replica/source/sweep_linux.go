package source

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readNothingAhead has the system read what is asked for and no more by this
// descriptor: what it had read ahead could not be told from what others use.
func readNothingAhead(f *os.File) {
	control(f, func(fd int) { _ = unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM) })
}

// uncached gives what of an extent is not in the system's cache, in whole memory
// pages, or nothing if that can't be told. It asks by a mapping that is never read
// (mincore(2)); to take that away closes no descriptor, so no lock is lost.
func uncached(f *os.File, x extent) (absent []extent) {
	page := int64(os.Getpagesize())
	first := x.off / page * page
	pages := (x.off + x.n - first + page - 1) / page
	if pages <= 0 {
		return nil
	}
	in := make([]byte, pages)
	known := false
	control(f, func(fd int) { known = resident(fd, first, pages*page, in) })
	if !known {
		return nil
	}
	for i, b := range in {
		if b&1 != 0 {
			continue
		}
		off := first + int64(i)*page
		if n := len(absent) - 1; n >= 0 && absent[n].off+absent[n].n == off {
			absent[n].n += page
			continue
		}
		absent = append(absent, extent{off, page})
	}
	return absent
}

// resident fills in with a byte for each memory page of an extent, whose lowest bit
// tells whether the cache has it.
func resident(fd int, off, n int64, in []byte) bool {
	m, err := unix.Mmap(fd, off, int(n), unix.PROT_NONE, unix.MAP_SHARED)
	if err != nil {
		return false
	}
	defer unix.Munmap(m) //nolint:errcheck // fails for what is no mapping only
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(unsafe.SliceData(m))), uintptr(n), uintptr(unsafe.Pointer(unsafe.SliceData(in))))
	return errno == 0
}

// uncache drops extents from the cache. What was changed and is not written yet stays.
func uncache(f *os.File, loaded []extent) {
	control(f, func(fd int) {
		for _, x := range loaded {
			_ = unix.Fadvise(fd, x.off, x.n, unix.FADV_DONTNEED) // advice
		}
	})
}

// control calls fn with the descriptor, unless the file is closed.
func control(f *os.File, fn func(fd int)) {
	if c, err := f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { fn(int(fd)) })
	}
}
