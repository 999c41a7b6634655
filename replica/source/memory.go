package source

import (
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// init has SQLite take memory when it needs it, instead of 48 KiB for each
// connection in advance: that is half of what an idle one costs, and there may be
// ten thousand. It must happen before the first connection is opened. Were it too
// late, only memory would be lost.
//
//nolint:gochecknoinits // SQLite can be told once, before all else
func init() {
	tls := libc.NewTLS()
	defer tls.Close()
	const args = 16
	p := tls.Alloc(args)
	defer tls.Free(args)
	sqlite3.Xsqlite3_config(tls, sqlite3.SQLITE_CONFIG_LOOKASIDE, libc.VaList(p, int32(0), int32(0)))
}
