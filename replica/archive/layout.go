package archive

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
	"tidemark/wal/segment"
)

// Errors that callers branch on.
var (
	// ErrNoReplica says that the bucket's prefix holds no replica.
	ErrNoReplica = errors.New("no replica here")
	// ErrFenced says that another writer has advanced the replica: an object
	// that was to be written next is there, and is not ours.
	ErrFenced = errors.New("another writer has advanced this replica")
	// ErrUnfenceable says that the storage ignores or refuses conditional
	// writes, so that two writers would not notice each other.
	ErrUnfenceable = errors.New("the storage does not honour conditional writes (If-None-Match), without which " +
		"two replicators could mix their histories unnoticed")
	// ErrBroken says that the history does not hold together: an object that
	// must be there is missing, is another replica's, or does not continue the
	// one before it.
	ErrBroken = errors.New("the replica's history is broken")
)

const (
	metaKey        = "tidemark.json"
	logPrefix      = "log/"
	packPrefix     = "pack/"
	segmentSuffix  = ".seg"
	snapshotPrefix = "snapshot/"
	snapshotSuffix = ".snap"
	markPrefix     = "mark/"
	markSuffix     = ".json"
	formatVersion  = 1
	maxMetaSize    = 64 << 10
)

// Meta is what tidemark.json says.
type Meta struct {
	// Format is the layout's version.
	Format int
	// Replica names the replica; all its objects repeat it.
	Replica segment.ReplicaID
	// PageSize is the database's.
	PageSize wal.PageSize
	// Created is when the replica was.
	Created time.Time
}

type metaFile struct {
	Format   int       `json:"format"`
	Replica  string    `json:"replica"`
	PageSize uint32    `json:"page_size"`
	Created  time.Time `json:"created"`
}

// SegmentKey is the key of the segment whose first commit is given.
func SegmentKey(first state.TXID) string { return logPrefix + first.Hex() + segmentSuffix }

// PackKey is the key of the pack that holds the commits from first to last.
func PackKey(first, last state.TXID) string {
	return packPrefix + first.Hex() + "-" + last.Hex() + segmentSuffix
}

// SnapshotKey is the key of the snapshot of a commit.
func SnapshotKey(id, base state.TXID) string {
	return snapshotPrefix + id.Hex() + "-" + base.Hex() + snapshotSuffix
}

// Segment is a stretch of the log as the listing shows it: a segment, or a pack,
// which holds the commits of many and has the same format.
type Segment struct {
	First state.TXID
	// Last is a pack's last commit. It is 0 for a segment: its last commit is
	// the one before the next one's first.
	Last state.TXID
	Size int64
}

// IsPack tells a pack from a segment.
func (s Segment) IsPack() bool { return s.Last != 0 }

// Key is the object's.
func (s Segment) Key() string {
	if s.IsPack() {
		return PackKey(s.First, s.Last)
	}
	return SegmentKey(s.First)
}

// Snapshot is a snapshot as the listing shows it.
type Snapshot struct {
	TXID, Base state.TXID
	Size       int64
}

// Key is the snapshot's.
func (s Snapshot) Key() string { return SnapshotKey(s.TXID, s.Base) }

// Listing is what a replica holds, each kind in ascending order.
type Listing struct {
	// Segments is the log as it is read: where segments have been packed, the
	// pack.
	Segments []Segment
	// Covered are the segments and packs whose commits are all in another pack.
	// They are never read, and to be deleted some time after they were packed.
	Covered   []Segment
	Snapshots []Snapshot
	// Marks are the names of the marked commits.
	Marks []string
	meta  bool
	// put is when objects of the log were put, as far as storage tells.
	put map[Segment]time.Time
}

// PutAt is when an object of the log was put, by the storage's clock; zero if that is
// not known.
func (l *Listing) PutAt(s Segment) time.Time { return l.put[s] }

// add files one object of the bucket's listing.
func (l *Listing) add(o storage.Info) {
	if o.Key == metaKey {
		l.meta = true
	}
	if name, ok := cut(o.Key, logPrefix, segmentSuffix); ok {
		if id, err := state.ParseHex(name); err == nil && id != 0 {
			l.addLog(Segment{First: id, Size: o.Size}, o.Modified)
		}
	}
	if name, ok := cut(o.Key, packPrefix, segmentSuffix); ok {
		if first, last, ok := parsePair(name); ok && first != 0 && last >= first {
			l.addLog(Segment{First: first, Last: last, Size: o.Size}, o.Modified)
		}
	}
	if name, ok := cut(o.Key, snapshotPrefix, snapshotSuffix); ok {
		if id, base, ok := parsePair(name); ok && id > base {
			l.Snapshots = append(l.Snapshots, Snapshot{TXID: id, Base: base, Size: o.Size})
		}
	}
	if name, ok := cut(o.Key, markPrefix, markSuffix); ok {
		l.Marks = append(l.Marks, name)
	}
}

func (l *Listing) addLog(s Segment, at time.Time) {
	l.Segments = append(l.Segments, s)
	if at.IsZero() {
		return
	}
	if l.put == nil {
		l.put = map[Segment]time.Time{}
	}
	l.put[s] = at
}

// settle sorts the log and takes out of it what a pack has the commits of. That
// is how a replica is read in which a pack was put and nothing deleted yet, or
// not everything.
func (l *Listing) settle() {
	slices.SortFunc(l.Segments, func(a, b Segment) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(b.Last, a.Last))
	})
	var end state.TXID // of the packs so far
	log := l.Segments[:0]
	for _, s := range l.Segments {
		if max(s.First, s.Last) <= end {
			l.Covered = append(l.Covered, s)
			continue
		}
		log = append(log, s)
		end = max(end, s.Last)
	}
	l.Segments = log
}

// parsePair reads two TXIDs with a hyphen between them.
func parsePair(name string) (a, b state.TXID, ok bool) {
	left, right, _ := strings.Cut(name, "-")
	a, err1 := state.ParseHex(left)
	b, err2 := state.ParseHex(right)
	return a, b, err1 == nil && err2 == nil
}

func cut(key, prefix, suffix string) (string, bool) {
	name, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, suffix)
}

// Archive is a replica in a bucket as it was when it was opened. Reading it is
// safe for concurrent use, adding to it is not.
type Archive struct {
	bucket  storage.Bucket
	meta    Meta
	raw     []byte // tidemark.json
	listing Listing
}

// Known gives a replica that is known from before, to be added to while its
// storage can't be read. Its listing is empty.
func Known(b storage.Bucket, m Meta) *Archive { return &Archive{bucket: b, meta: m} }

func parseMeta(raw []byte) (Meta, error) {
	var f metaFile
	// The version first: of another one nothing else is known.
	var v struct{ Format int }
	if err := json.Unmarshal(raw, &v); err != nil {
		return Meta{}, fmt.Errorf("read %s: %w: %w", metaKey, block.ErrCorrupt, err)
	}
	if v.Format < 1 {
		return Meta{}, fmt.Errorf("read %s: %w: it is not tidemark's", metaKey, block.ErrCorrupt)
	}
	if v.Format != formatVersion {
		return Meta{}, fmt.Errorf("read %s: %w %d, this program reads %d", metaKey, block.ErrVersion, v.Format, formatVersion)
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return Meta{}, fmt.Errorf("read %s: %w: %w", metaKey, block.ErrCorrupt, err)
	}
	id, err := hex.DecodeString(f.Replica)
	if err != nil || len(id) != len(segment.ReplicaID{}) || !wal.PageSize(f.PageSize).Valid() {
		return Meta{}, fmt.Errorf("read %s: %w", metaKey, block.ErrCorrupt)
	}
	return Meta{Format: f.Format, Replica: segment.ReplicaID(id), PageSize: wal.PageSize(f.PageSize), Created: f.Created}, nil
}

// Create makes a replica where there is none. ErrFenced says that somebody else
// did so at the same time.
func Create(ctx context.Context, b storage.Bucket, size wal.PageSize, now time.Time) (*Archive, error) {
	m := Meta{Format: formatVersion, PageSize: size, Created: now.UTC().Truncate(time.Millisecond)}
	_, _ = rand.Read(m.Replica[:]) // never fails
	raw, err := json.Marshal(metaFile{Format: m.Format, Replica: m.Replica.String(), PageSize: uint32(size), Created: m.Created})
	if err != nil {
		return nil, fmt.Errorf("create replica: %w", err)
	}
	raw = append(raw, '\n')
	a := &Archive{bucket: b, meta: m, raw: raw}
	if err := a.putOnce(ctx, metaKey, bytesBody(raw)); err != nil {
		if errors.Is(err, storage.ErrUnconditional) {
			err = fmt.Errorf("%w: %w", ErrUnfenceable, err)
		}
		return nil, fmt.Errorf("create replica: %w", err)
	}
	return a, nil
}

// Meta is what the replica is.
func (a *Archive) Meta() Meta { return a.meta }

// Listing is what the replica held when it was opened. It must not be changed.
func (a *Archive) Listing() Listing { return a.listing }
