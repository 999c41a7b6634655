package check

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// journalMagic begins a rollback journal that is in use (fileformat2, section 3).
// When its transaction is over it is deleted, cut off, or begins with zeros.
func journalMagic() []byte { return []byte{0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7} }

// hotJournal tells whether there is a rollback journal, and whether it belongs to a
// transaction that has not ended.
func hotJournal(path string) (size int64, hot bool, err error) {
	f, err := openShared(path + "-journal")
	if errors.Is(err, fs.ErrNotExist) {
		return -1, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("open rollback journal: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return 0, false, fmt.Errorf("look at the rollback journal: %w", err)
	}
	b := make([]byte, len(journalMagic()))
	if _, err := io.ReadFull(f, b); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, false, fmt.Errorf("read the rollback journal: %w", err)
	}
	return info.Size(), bytes.Equal(b, journalMagic()), nil
}

// journal looks at the rollback journal.
func (c *checker) journal() error {
	size, hot, err := hotJournal(c.files.path)
	if err != nil {
		return err
	}
	switch {
	case hot && c.quiet():
		c.warn(Journal, "copy the database and its -journal before anything else; SQLite rolls the transaction back when the database is next opened",
			"%s-journal (%s) is left of a transaction that was interrupted", c.files.path, bytesOf(size))
	case hot:
		c.ok(Journal, "a transaction is under way (%s-journal, %s)", c.files.path, bytesOf(size))
	case size > 0:
		c.ok(Journal, "%s-journal is there, and not in use", c.files.path)
	default:
		c.ok(Journal, "no rollback journal")
	}
	return nil
}
