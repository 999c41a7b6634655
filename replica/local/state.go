package local

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// ErrLost says that a file of the directory is missing or unusable.
var ErrLost = errors.New("no usable local state")

// State is what tidemark remembers of a replica between runs.
type State struct {
	// Replica is the one that the rest is about.
	Replica segment.ReplicaID
	// TXID is the last commit that is safe: in the archive or in the spool.
	// Checksum and Pages are the state after it, Time its time.
	TXID     state.TXID
	Checksum state.Checksum
	Pages    uint32
	Time     time.Time
	// Position is the WAL's end of that commit, or, if the WAL restarted
	// since, the new generation's start.
	Position wal.Position
	// File is what the database file looked like then. If it does not look so
	// any more, somebody has written to it since.
	File Stamp
}

// Stamp tells a file that was written to from one that was not.
type Stamp struct {
	// Size is in bytes, Modified in nanoseconds since 1970.
	Size, Modified int64
	// File and Changed are the file's number and the time of its last change of
	// any kind, or 0.
	File    uint64
	Changed int64
}

// file is the stored form.
type file struct {
	Format   int       `json:"format"`
	Replica  string    `json:"replica"`
	TXID     uint64    `json:"txid"`
	Checksum uint64    `json:"checksum,string"`
	Pages    uint32    `json:"pages"`
	Time     time.Time `json:"time"`
	Salt1    uint32    `json:"salt1"`
	Salt2    uint32    `json:"salt2"`
	Frame    uint32    `json:"frame"`
	Sum0     uint32    `json:"sum0"`
	Sum1     uint32    `json:"sum1"`
	Size     int64     `json:"file_size"`
	Modified int64     `json:"file_modified,string"`
	File     uint64    `json:"file_number,string"`
	Changed  int64     `json:"file_changed,string"`
	// Sum is the xxh64 of the file with this field 0: a torn file must not
	// pass for an old one.
	Sum uint64 `json:"sum,string"`
}

const format = 1

// Save replaces the remembered state.
func (d *Dir) Save(s State, survive Durability) error {
	f := file{
		Format: format, Replica: s.Replica.String(), TXID: uint64(s.TXID), Checksum: uint64(s.Checksum),
		Pages: s.Pages, Time: s.Time.UTC(),
		Salt1: s.Position.Salts.Salt1, Salt2: s.Position.Salts.Salt2, Frame: s.Position.Frame,
		Sum0: s.Position.Sum.S0, Sum1: s.Position.Sum.S1,
		Size: s.File.Size, Modified: s.File.Modified, File: s.File.File, Changed: s.File.Changed,
	}
	f.Sum = f.hash()
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	err = d.replace("state.json", survive, func(w io.Writer) error {
		_, err := w.Write(append(b, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	return nil
}

func (f file) hash() uint64 {
	f.Sum = 0
	b, _ := json.Marshal(f) // numbers, a string and a time: it can't fail
	return xxhash.Sum64(b)
}

// Load reads the remembered state. ErrLost says that there is none to be used.
func (d *Dir) Load() (State, error) {
	b, err := d.read("state.json")
	if err != nil {
		return State{}, err
	}
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return State{}, fmt.Errorf("%w: state.json: %w", ErrLost, err)
	}
	id, err := hex.DecodeString(f.Replica)
	if err != nil || len(id) != len(segment.ReplicaID{}) || f.Format != format || f.hash() != f.Sum {
		return State{}, fmt.Errorf("%w: state.json is damaged or of another version", ErrLost)
	}
	return State{
		Replica: segment.ReplicaID(id), TXID: state.TXID(f.TXID), Checksum: state.Checksum(f.Checksum),
		Pages: f.Pages, Time: f.Time,
		Position: wal.Position{
			Salts: wal.Salts{Salt1: f.Salt1, Salt2: f.Salt2}, Frame: f.Frame,
			Sum: wal.Checksum{S0: f.Sum0, S1: f.Sum1},
		},
		File: Stamp{Size: f.Size, Modified: f.Modified, File: f.File, Changed: f.Changed},
	}, nil
}
