package local

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
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
	}
	f.Sum = f.hash()
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("save state: %w", err)
	}
	err = d.replace("state.json", survive, func(w *os.File) error {
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
	b, err := os.ReadFile(d.file("state.json"))
	if err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrLost, err)
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
	}, nil
}

// Shipped names the newest segment that is known to be in the archive, by its
// first and last TXID. A replica of which only the first snapshot is there has
// First 0 and the snapshot's TXID as Last.
type Shipped struct {
	Replica     segment.ReplicaID
	First, Last state.TXID
}

// shippedFile is the stored form.
type shippedFile struct {
	Replica string `json:"replica"`
	First   uint64 `json:"first"`
	Last    uint64 `json:"last"`
	// Sum is the xxh64 of the file with this field 0.
	Sum uint64 `json:"sum,string"`
}

func (f shippedFile) hash() uint64 {
	f.Sum = 0
	b, _ := json.Marshal(f) // numbers and a string: it can't fail
	return xxhash.Sum64(b)
}

// SaveShipped remembers, durably, what is in the archive.
func (d *Dir) SaveShipped(s Shipped) error {
	f := shippedFile{Replica: s.Replica.String(), First: uint64(s.First), Last: uint64(s.Last)}
	f.Sum = f.hash()
	b, err := json.Marshal(f)
	if err == nil {
		err = d.replace("shipped.json", Power, func(w *os.File) error {
			_, err := w.Write(append(b, '\n'))
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("save what is shipped: %w", err)
	}
	return nil
}

// LoadShipped reads what is in the archive of a replica. ErrLost says that it is
// not known.
func (d *Dir) LoadShipped(id segment.ReplicaID) (Shipped, error) {
	b, err := os.ReadFile(d.file("shipped.json"))
	if err != nil {
		return Shipped{}, fmt.Errorf("%w: %w", ErrLost, err)
	}
	var f shippedFile
	if err := json.Unmarshal(b, &f); err != nil || f.hash() != f.Sum || f.Replica != id.String() {
		return Shipped{}, fmt.Errorf("%w: shipped.json is damaged or another replica's", ErrLost)
	}
	return Shipped{Replica: id, First: state.TXID(f.First), Last: state.TXID(f.Last)}, nil
}
