package check

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"tidemark/wal"
)

// fileHeader is what the first 100 bytes of a database say (fileformat2, section 1.3).
type fileHeader struct {
	size                        wal.PageSize
	writeVersion, readVersion   byte
	reserved                    byte
	fractions                   [3]byte
	changes, pages, schema, enc uint32
	validFor, version           uint32
	expansion                   [20]byte
}

const (
	headerSize  = 100
	headerMagic = "SQLite format 3\x00"
)

// parseHeader decodes a header, whatever it says. ok is false for one that is not
// SQLite's.
func parseHeader(b []byte) (_ fileHeader, ok bool) {
	if len(b) < headerSize || string(b[:16]) != headerMagic {
		return fileHeader{}, false
	}
	word := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	return fileHeader{
		size: wal.StatedPageSize(b), writeVersion: b[writeVersionAt], readVersion: b[readVersionAt],
		reserved: b[20], fractions: [3]byte(b[21:24]),
		changes: word(24), pages: word(28), schema: word(44), enc: word(56), validFor: word(92), version: word(96),
		expansion: [20]byte(b[72:92]),
	}, true
}

// wrong tells what SQLite would refuse, or read wrongly.
func (h fileHeader) wrong() []string {
	var out []string
	add := func(bad bool, format string, args ...any) {
		if bad {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(!h.size.Valid(), "the page size %d is impossible", h.size)
	add(h.writeVersion == 0 || h.readVersion == 0, "the format versions are %d and %d", h.writeVersion, h.readVersion)
	add(h.size.Valid() && int(h.size)-int(h.reserved) < 480, "%d of %d bytes of each page are reserved", h.reserved, h.size)
	add(h.fractions != [3]byte{64, 32, 32}, "the payload fractions are %d", h.fractions)
	add(h.schema > 4, "the schema format is %d", h.schema)
	add(h.enc > 3, "the text encoding is %d", h.enc)
	return out
}

// header looks at the header of the database file. ok is false if nothing more can be
// told of the database.
func (c *checker) header() (ok bool, err error) {
	const mend = "don't open it with SQLite: tidemark salvage takes out what is left, tidemark restore brings back what was replicated"
	b := make([]byte, headerSize)
	n, err := c.files.db.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the database's header: %w", err)
	}
	h, ok := parseHeader(b[:n])
	wrong := h.wrong()
	switch {
	case n == 0 && hasWAL(c.files.path):
		c.fail(Header, "don't open the database: SQLite would delete the WAL. Take out what that has with tidemark salvage",
			"the file is empty, and %s-wal is not", c.files.path)
		return false, nil
	case n == 0:
		c.fail(Header, "start the application once, so that it creates its tables; if there were any, use tidemark salvage or tidemark restore", "the file is empty")
		return false, nil
	case !ok:
		c.fail(Header, mend, "the file does not begin with SQLite's header: it is damaged, another kind of file, or encrypted")
		return false, nil
	case len(wrong) > 0:
		c.fail(Header, mend, "the header is damaged: %s", joined(wrong))
		return false, nil
	case h.writeVersion > walVersion || h.readVersion > walVersion:
		c.fail(Header, "only SQLite's own journal modes can be replicated: switch it with PRAGMA journal_mode=WAL in the program that made it",
			"the file format versions are %d and %d (WAL2, or another kind of SQLite)", h.writeVersion, h.readVersion)
		return false, nil
	}
	c.head = h
	if !slices.Equal(h.expansion[:], make([]byte, len(h.expansion))) {
		c.warn(Header, "a newer SQLite, or something else, has written there: compare with a backup", "bytes 72 to 91 of the header are not zero, as they must be")
		return true, nil
	}
	c.ok(Header, "SQLite 3, pages of %d bytes", h.size)
	return true, nil
}

// journalMode looks at the mode that the header has.
func (c *checker) journalMode() {
	if c.head.readVersion == walVersion {
		c.ok(JournalMode, "WAL")
		return
	}
	c.warn(JournalMode, "tidemark replicate switches it to WAL, once; or run PRAGMA journal_mode=WAL in it", "a rollback journal")
}

// The SQLite versions with the WAL-reset bug (sqlite.org/wal.html, "the WAL-reset
// bug"): from the first with a WAL to 3.51.2. Two older lines have the fix, too.
const (
	firstWithWAL     = 3_007_000
	fixed344         = 3_044_006
	fixed350         = 3_050_007
	firstWithoutBug  = 3_051_003
	versionsPerMinor = 1000
)

// hasResetBug tells whether a version of SQLite, as its header gives it, has the bug.
func hasResetBug(v uint32) bool {
	for _, fixed := range []uint32{fixed344, fixed350} {
		if v/versionsPerMinor == fixed/versionsPerMinor {
			return v < fixed
		}
	}
	return v >= firstWithWAL && v < firstWithoutBug
}

// versionText writes SQLITE_VERSION_NUMBER as people do.
func versionText(v uint32) string {
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/versionsPerMinor%1000, v%versionsPerMinor)
}

// version looks at which SQLite has written the newest page 1.
func (c *checker) version(v uint32) {
	switch {
	case v == 0:
		c.ok(Version, "the header does not tell which SQLite has written it")
	case hasResetBug(v) && c.head.readVersion == walVersion:
		c.warn(Version, "upgrade the application's SQLite to 3.51.3 or later (or 3.50.7, or 3.44.6)",
			"last written by SQLite %s, which has the WAL-reset bug: in WAL mode it can, rarely, corrupt a database that several connections write to", versionText(v))
	default:
		c.ok(Version, "last written by SQLite %s", versionText(v))
	}
}
