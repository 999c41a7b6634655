package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cespare/xxhash/v2"

	"tidemark/replica/disk"
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

// shipped.json has two slots that are written in turn, each in its place: what is
// written down last stays while the next is. So to write it down needs no room,
// which is what uploads make when the disk is full, and it is never lost to a crash
// or a failure. A slot is a line of JSON; the newest of those that are whole counts.
const (
	slots = 2
	// slotSize is more than a slot can need. They begin slotEvery apart, in blocks
	// of their own: a power cut while a block is written can cost all of it.
	slotSize, slotEvery = 512, 4096
)

// shippedSlot is the stored form.
type shippedSlot struct {
	// Turn counts what was written down. Turn n is in slot n mod 2.
	Turn      uint64 `json:"turn"`
	Replica   string `json:"replica"`
	First     uint64 `json:"first"`
	Last      uint64 `json:"last"`
	Checksum  uint64 `json:"checksum,string"`
	NextFirst uint64 `json:"next_first"`
	NextLast  uint64 `json:"next_last"`
	NextSum   uint64 `json:"next_sum,string"`
	// Sum is the xxh64 of the slot with this field 0.
	Sum uint64 `json:"sum,string"`
}

func (s shippedSlot) hash() uint64 {
	s.Sum = 0
	b, _ := json.Marshal(s) // numbers and a string: it can't fail
	return xxhash.Sum64(b)
}

// encode gives the slot's bytes.
func (s shippedSlot) encode() []byte {
	s.Sum = s.hash()
	b, _ := json.Marshal(s) // as above
	return fmt.Appendf(nil, "%-*s\n", slotSize-1, b)
}

func (s shippedSlot) at() int64 { return int64(s.Turn%slots) * slotEvery }

// newestSlot finds the slot that was written last, and ErrLost without one.
func (d *Dir) newestSlot() (newest shippedSlot, err error) {
	b, err := d.read("shipped.json")
	if err != nil {
		return shippedSlot{}, err
	}
	for ; len(b) > 0; b = b[min(slotEvery, len(b)):] {
		var s shippedSlot
		err := json.Unmarshal(b[:min(slotSize, len(b))], &s)
		if err == nil && s.hash() == s.Sum && s.Turn > newest.Turn {
			newest = s
		}
	}
	if newest.Turn == 0 {
		return shippedSlot{}, fmt.Errorf("%w: shipped.json is damaged", ErrLost)
	}
	return newest, nil
}

// SaveShipped remembers, durably, what is in the archive. If it fails, what was
// remembered before is still there, or this is.
func (d *Dir) SaveShipped(s Shipped) error {
	last, err := d.newestSlot()
	next := shippedSlot{
		Turn: last.Turn + 1, Replica: s.Replica.String(), First: uint64(s.Newest.First), Last: uint64(s.Newest.Last), Checksum: s.Newest.Sum,
		NextFirst: uint64(s.Next.First), NextLast: uint64(s.Next.Last), NextSum: s.Next.Sum,
	}
	if err == nil {
		err = d.writeSlot(next)
	}
	if err != nil {
		// There is no file yet, or it is damaged, or its place on the disk is. The
		// new one has room for both slots.
		b := make([]byte, slotEvery*(slots-1)+slotSize)
		copy(b[next.at():], next.encode())
		err = d.replace("shipped.json", Power, func(w io.Writer) error { _, err := w.Write(b); return err })
		d.placed = err == nil
	}
	if err != nil {
		return fmt.Errorf("save what is shipped: %w", err)
	}
	return nil
}

// writeSlot writes a slot into its place, durably.
func (d *Dir) writeSlot(s shippedSlot) error {
	f, err := d.fs.OpenFile(d.file("shipped.json"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(s.encode(), s.at())
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil || d.placed {
		return err
	}
	// Whoever made the file may have ended before its name was durable.
	if err := disk.SyncDir(d.fs, d.path); err != nil {
		return err
	}
	d.placed = true
	return nil
}

// LoadShipped reads what is in the archive of a replica. ErrLost says that it is
// not known.
func (d *Dir) LoadShipped(id segment.ReplicaID) (Shipped, error) {
	f, err := d.newestSlot()
	if err != nil {
		return Shipped{}, err
	}
	if f.Replica != id.String() {
		return Shipped{}, fmt.Errorf("%w: shipped.json is another replica's", ErrLost)
	}
	return Shipped{
		Replica: id,
		Newest:  Object{First: state.TXID(f.First), Last: state.TXID(f.Last), Sum: f.Checksum},
		Next:    Object{First: state.TXID(f.NextFirst), Last: state.TXID(f.NextLast), Sum: f.NextSum},
	}, nil
}
