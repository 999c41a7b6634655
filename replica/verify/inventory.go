package verify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidemark/replica/archive"
	"tidemark/snapshot/state"
	"tidemark/storage"
)

// The keys that no function of package archive gives.
const (
	metaKey    = "tidemark.json"
	markPrefix = "mark/"
	markSuffix = ".json"
	// maxTXID is more commits than there will ever be: a key that names one past it
	// is absurd, and no sum of TXIDs overflows.
	maxTXID = state.TXID(1) << 62
)

// logObject is a segment or a pack.
type logObject struct {
	key  string
	pack bool
	size int64
	put  time.Time
	// first and last are its commits. The last of a segment is read from its index;
	// until then, and if that can't be read, it is 0.
	first, last state.TXID
	// begin and end are the times of these commits, zero if they are not known.
	begin, end time.Time
	// over is the key of the pack that covers it, "" if it is read.
	over string
}

func (o logObject) class() Class {
	if o.pack {
		return Pack
	}
	return Segment
}

// snapObject is a snapshot.
type snapObject struct {
	key        string
	size       int64
	txid, base state.TXID
	// time and pages are what its header says, zero if that can't be read.
	time  time.Time
	pages uint32
}

// markObject is a mark.
type markObject struct {
	key, name string
	size      int64
	// txid and time are what it says, zero if that can't be read.
	txid state.TXID
	time time.Time
}

// inventory is what lies in a bucket.
type inventory struct {
	// meta tells that tidemark.json is there, metaSize its length.
	meta     bool
	metaSize int64
	// log are segments and packs by first TXID, of equal ones the longest pack
	// first; covered ones among them. snaps are by TXID and base.
	log     []logObject
	snaps   []snapObject
	marks   []markObject
	foreign []storage.Info
	// absurd are objects whose keys are a replica's, with numbers that can't be.
	absurd []storage.Info
	// byKey and snapByKey are log and snaps, once their ends are known.
	byKey     map[string]logObject
	snapByKey map[string]snapObject
}

// index makes the objects that are known now be found by their keys.
func (inv *inventory) index() {
	inv.byKey, inv.snapByKey = make(map[string]logObject, len(inv.log)), make(map[string]snapObject, len(inv.snaps))
	for _, o := range inv.log {
		inv.byKey[o.key] = o
	}
	for _, s := range inv.snaps {
		inv.snapByKey[s.key] = s
	}
}

// take lists a bucket.
func take(ctx context.Context, b storage.Bucket) (*inventory, error) {
	inv := &inventory{}
	err := b.List(ctx, "", "", func(o storage.Info) error {
		inv.add(o)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list replica: %w", err)
	}
	slices.SortFunc(inv.log, func(a, b logObject) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(b.last, a.last))
	})
	slices.SortFunc(inv.snaps, func(a, b snapObject) int {
		return cmp.Or(cmp.Compare(a.txid, b.txid), cmp.Compare(a.base, b.base))
	})
	inv.cover()
	return inv, nil
}

// add files an object. A key counts only if it is exactly the one that its parts
// give.
func (inv *inventory) add(o storage.Info) {
	a, b := numbersOf(o.Key)
	isSegment, isPack, isSnapshot := o.Key == archive.SegmentKey(a), o.Key == archive.PackKey(a, b), o.Key == archive.SnapshotKey(a, b)
	switch {
	case o.Key == metaKey:
		inv.meta, inv.metaSize = true, o.Size
	case isMark(o.Key):
		name := strings.TrimSuffix(strings.TrimPrefix(o.Key, markPrefix), markSuffix)
		inv.marks = append(inv.marks, markObject{key: o.Key, name: name, size: o.Size})
	case (isSegment || isPack || isSnapshot) && max(a, b) > maxTXID:
		inv.absurd = append(inv.absurd, o)
	case isSegment && a > 0:
		inv.log = append(inv.log, logObject{key: o.Key, size: o.Size, put: o.Modified, first: a})
	case isPack && a > 0 && b >= a:
		inv.log = append(inv.log, logObject{key: o.Key, pack: true, size: o.Size, put: o.Modified, first: a, last: b})
	case isSnapshot && a > b:
		inv.snaps = append(inv.snaps, snapObject{key: o.Key, size: o.Size, txid: a, base: b})
	default:
		inv.foreign = append(inv.foreign, o)
	}
}

// numbersOf reads the one or two TXIDs of a key's last part; 0 for what is none.
func numbersOf(key string) (a, b state.TXID) {
	name := key[strings.LastIndexByte(key, '/')+1:]
	name, _, _ = strings.Cut(name, ".")
	left, right, _ := strings.Cut(name, "-")
	a, _ = state.ParseHex(left) // 0 with an error
	b, _ = state.ParseHex(right)
	return a, b
}

func isMark(key string) bool {
	name, ok := strings.CutPrefix(key, markPrefix)
	if ok {
		name, ok = strings.CutSuffix(name, markSuffix)
	}
	return ok && archive.CheckMarkName(name) == nil
}

// cover finds what nobody reads, since a pack has its commits: what begins in a pack
// that was met before, and, if it is a pack, ends in it.
func (inv *inventory) cover() {
	var over logObject
	for i := range inv.log {
		o := &inv.log[i]
		if over.pack && max(o.first, o.last) <= over.last {
			o.over = over.key
			continue
		}
		if o.pack && o.last > over.last {
			over = *o
		}
	}
}

// same tells whether another listing showed the same objects of the replica.
func (inv *inventory) same(other *inventory) bool {
	return slices.EqualFunc(inv.log, other.log, func(a, b logObject) bool { return a.key == b.key }) &&
		slices.EqualFunc(inv.snaps, other.snaps, func(a, b snapObject) bool { return a.key == b.key })
}

// empty tells that there is nothing of a replica.
func (inv *inventory) empty() bool {
	return !inv.meta && len(inv.log)+len(inv.snaps)+len(inv.marks) == 0
}

// read is the log as it is read: what no pack covers.
func (inv *inventory) read() []logObject {
	return slices.DeleteFunc(slices.Clone(inv.log), func(o logObject) bool { return o.over != "" })
}

// counts are how many objects of each class there are, and how many of them were read.
func (inv *inventory) counts(read map[string]bool) map[Class]Count {
	out := map[Class]Count{}
	add := func(c Class, key string, size int64) {
		n := out[c]
		if n.Objects++; read[key] {
			n.Read++
		}
		n.Bytes += size
		out[c] = n
	}
	if inv.meta {
		add(Meta, metaKey, inv.metaSize)
	}
	for _, o := range inv.log {
		add(o.class(), o.key, o.size)
	}
	for _, s := range inv.snaps {
		add(Snapshot, s.key, s.size)
	}
	for _, m := range inv.marks {
		add(Mark, m.key, m.size)
	}
	for _, f := range slices.Concat(inv.foreign, inv.absurd) {
		add(Foreign, f.Key, f.Size)
	}
	return out
}
