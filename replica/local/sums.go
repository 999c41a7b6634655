package local

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"

	"tidemark/snapshot/state"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// The page sums' file:
//
//	0        8         24     32     36      40        40+8n
//	| magic  | replica | TXID | page | pages | sums... | xxh64 of all before |
//	|TIDESUM1| id      |      | size | n     |         |
const (
	sumsMagic  = "TIDESUM1"
	sumsHeader = 40
)

// The files with page sums: of the state that is followed, and of the newest
// snapshot.
const (
	sumsFile = "sums"
	baseFile = "base"
)

// SaveSums remembers the page sums of the state after a commit, durably.
func (d *Dir) SaveSums(id segment.ReplicaID, tx state.TXID, t *state.Table) error {
	return d.saveSums(sumsFile, id, tx, t)
}

// SaveBase remembers the page sums of the newest snapshot, to which the next one
// will add. It may be called beside anything but LoadBase and itself.
func (d *Dir) SaveBase(id segment.ReplicaID, tx state.TXID, t *state.Table) error {
	return d.saveSums(baseFile, id, tx, t)
}

func (d *Dir) saveSums(name string, id segment.ReplicaID, tx state.TXID, t *state.Table) error {
	err := d.replace(name, Power, func(w io.Writer) error {
		hash := xxhash.New()
		out := io.MultiWriter(w, hash)
		be := binary.BigEndian
		b := append([]byte(sumsMagic), id[:]...)
		b = be.AppendUint64(b, uint64(tx))
		b = be.AppendUint32(b, uint32(t.PageSize()))
		b = be.AppendUint32(b, t.Len())
		for at := uint32(0); ; {
			if _, err := out.Write(b); err != nil {
				return err
			}
			if at == t.Len() {
				break
			}
			next := min(at+1<<15, t.Len())
			b, at = t.AppendBinary(b[:0], at, next), next
		}
		_, err := w.Write(be.AppendUint64(nil, hash.Sum64()))
		return err
	})
	if err != nil {
		return fmt.Errorf("save page sums: %w", err)
	}
	return nil
}

// LoadSums reads the remembered page sums and the commit after which they were
// taken. ErrLost says that there are none to be used for the replica.
func (d *Dir) LoadSums(id segment.ReplicaID) (state.TXID, *state.Table, error) {
	return d.loadSums(sumsFile, id)
}

// LoadBase reads the page sums of the newest snapshot as LoadSums does.
func (d *Dir) LoadBase(id segment.ReplicaID) (state.TXID, *state.Table, error) {
	return d.loadSums(baseFile, id)
}

func (d *Dir) loadSums(name string, id segment.ReplicaID) (state.TXID, *state.Table, error) {
	b, err := d.read(name)
	if err != nil {
		return 0, nil, err
	}
	be := binary.BigEndian
	if len(b) < sumsHeader+8 || string(b[:8]) != sumsMagic || !bytes.Equal(b[8:24], id[:]) ||
		xxhash.Sum64(b[:len(b)-8]) != be.Uint64(b[len(b)-8:]) {
		return 0, nil, fmt.Errorf("%w: the page sums are damaged or another replica's", ErrLost)
	}
	n, size := int(be.Uint32(b[36:])), wal.PageSize(be.Uint32(b[32:]))
	if len(b) != sumsHeader+8*n+8 || !size.Valid() {
		return 0, nil, fmt.Errorf("%w: the page sums are damaged", ErrLost)
	}
	sums := make([]state.Sum, n)
	for i := range sums {
		sums[i] = state.Sum(be.Uint64(b[sumsHeader+8*i:]))
	}
	return state.TXID(be.Uint64(b[24:])), state.TableOf(size, sums), nil
}
