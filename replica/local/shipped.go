package local

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot/state"
	"tidemark/wal/segment"
)

// Shipped is what is known to be in the archive from here, and what may be.
type Shipped struct {
	// Replica is the one that it is about.
	Replica segment.ReplicaID
	// Newest is the newest object that is known to be there: a segment, or the
	// snapshot that the replica begins with.
	Newest Object
	// Next is the object that is being put there, if any: it is written down
	// before, so that it can be recognised as one's own if nothing is written
	// down after.
	Next Object
}

// Object names an object of the archive by what it holds. The zero value is
// none.
type Object struct {
	// First and Last are a segment's. The first snapshot has First 0.
	First, Last state.TXID
	// Sum is a segment's checksum; of a snapshot, the time in its header, in
	// milliseconds, to which no other writer's is likely to be equal.
	Sum uint64
}

// shippedFile is the stored form.
type shippedFile struct {
	Replica   string `json:"replica"`
	First     uint64 `json:"first"`
	Last      uint64 `json:"last"`
	Checksum  uint64 `json:"checksum,string"`
	NextFirst uint64 `json:"next_first"`
	NextLast  uint64 `json:"next_last"`
	NextSum   uint64 `json:"next_sum,string"`
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
	f := shippedFile{
		Replica: s.Replica.String(), First: uint64(s.Newest.First), Last: uint64(s.Newest.Last), Checksum: s.Newest.Sum,
		NextFirst: uint64(s.Next.First), NextLast: uint64(s.Next.Last), NextSum: s.Next.Sum,
	}
	f.Sum = f.hash()
	b, err := json.Marshal(f)
	if err == nil {
		err = d.replace("shipped.json", Power, func(w io.Writer) error {
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
	b, err := d.read("shipped.json")
	if err != nil {
		return Shipped{}, err
	}
	var f shippedFile
	if err := json.Unmarshal(b, &f); err != nil || f.hash() != f.Sum || f.Replica != id.String() {
		return Shipped{}, fmt.Errorf("%w: shipped.json is damaged or another replica's", ErrLost)
	}
	return Shipped{
		Replica: id,
		Newest:  Object{First: state.TXID(f.First), Last: state.TXID(f.Last), Sum: f.Checksum},
		Next:    Object{First: state.TXID(f.NextFirst), Last: state.TXID(f.NextLast), Sum: f.NextSum},
	}, nil
}
