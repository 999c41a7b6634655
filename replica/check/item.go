package check

import "fmt"

// Level is how an item stands.
type Level string

// The levels, from best to worst.
const (
	// OK needs nothing done.
	OK Level = "ok"
	// Warn is no reason not to start, but somebody should look at it.
	Warn Level = "warn"
	// Fail is a reason not to start: data is damaged or at risk.
	Fail Level = "fail"
)

// ID names an item. IDs never change: scripts go by them.
type ID string

// The items, in the order in which they are given. The last four need a bucket.
// Items that can't be looked at, since what they rest on failed, are left out.
const (
	Permissions  ID = "permissions"
	FileSystem   ID = "file-system"
	DiskSpace    ID = "disk-space"
	OpenedBy     ID = "opened-by"
	Header       ID = "header"
	JournalMode  ID = "journal-mode"
	Journal      ID = "journal"
	WAL          ID = "wal"
	SharedMemory ID = "shm"
	Size         ID = "size"
	Integrity    ID = "integrity"
	Version      ID = "sqlite-version"
	Storage      ID = "storage"
	Conditional  ID = "conditional-writes"
	Replica      ID = "replica"
	Behind       ID = "behind"
)

// Item is one thing that was looked at.
type Item struct {
	ID    ID    `json:"id"`
	Level Level `json:"level"`
	// Finding says what was found, in a line.
	Finding string `json:"finding"`
	// Advice says what to do, in a line; "" with OK.
	Advice string `json:"advice,omitempty"`
}

// Worst is the worst level of items; OK if there are none.
func Worst(items []Item) Level {
	worst := OK
	for _, i := range items {
		if i.Level == Fail || i.Level == Warn && worst == OK {
			worst = i.Level
		}
	}
	return worst
}

// items gathers them.
type items []Item

func (l *items) ok(id ID, format string, args ...any) {
	*l = append(*l, Item{ID: id, Level: OK, Finding: fmt.Sprintf(format, args...)})
}

func (l *items) warn(id ID, advice, format string, args ...any) {
	*l = append(*l, Item{ID: id, Level: Warn, Finding: fmt.Sprintf(format, args...), Advice: advice})
}

func (l *items) fail(id ID, advice, format string, args ...any) {
	*l = append(*l, Item{ID: id, Level: Fail, Finding: fmt.Sprintf(format, args...), Advice: advice})
}
