package verify

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tidemark/replica/archive"
	"tidemark/snapshot"
	"tidemark/snapshot/block"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/wal"
	"tidemark/wal/segment"
)

const (
	// readers is how many small reads are made at once.
	readers = 16
	// maxSmall is the length of the longest tidemark.json or mark.
	maxSmall = 64 << 10
	// hold is for how long a replicator leaves what it has packed; after twice that
	// it should be gone.
	hold = time.Hour
)

// survey is one look at a listing.
type survey struct {
	v    *verifier
	inv  *inventory
	meta *meta
	gaps []Gap
	// waiting are covered objects that are still to be deleted.
	waiting int

	mu sync.Mutex
	// findings, and the objects that can't be relied on, by key; guarded by mu while
	// objects are read.
	findings []Finding
	bad      map[string]bool
	// owners are the replicas to which the objects belong by their headers; guarded by
	// mu, too.
	owners map[[16]byte]bool
	// loose tells that there are findings that a prune that is under way would make.
	loose bool
}

// survey lists the replica, reads the ends of its objects, and looks for what is
// wrong. That an object has vanished meanwhile is storage.ErrNotExist.
func (v *verifier) survey(ctx context.Context) (*survey, error) {
	s := &survey{v: v, bad: map[string]bool{}, owners: map[[16]byte]bool{}}
	var err error
	if s.inv, err = take(ctx, v.bucket); err != nil {
		return nil, err
	}
	switch {
	case s.inv.empty():
		return nil, fmt.Errorf("%w: there is no %s", archive.ErrNoReplica, metaKey)
	case s.inv.meta && len(s.inv.log)+len(s.inv.snaps) == 0:
		return nil, fmt.Errorf("%w: its first snapshot has not been written completely", archive.ErrNoReplica)
	}
	if err := s.readMeta(ctx); err != nil {
		return nil, err
	}
	if err := s.readEnds(ctx); err != nil {
		return nil, err
	}
	s.strangers()
	s.covered()
	s.snapshots()
	s.log()
	s.marked()
	return s, nil
}

// damaged notes an object that can't be relied on. What is lost is worked out when
// all ends are known.
func (s *survey) damaged(class Class, key, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad[key] = true
	s.findings = append(s.findings, Finding{Check: CheckList, Class: class, Key: key, Problem: problem})
}

// small reads a small object whole.
func (s *survey) small(ctx context.Context, key string) ([]byte, error) {
	r, err := s.v.open(ctx, key, 0, maxSmall)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	b, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return b, nil
}

// readMeta reads tidemark.json.
func (s *survey) readMeta(ctx context.Context) error {
	problem := "it is missing"
	if s.inv.meta {
		b, err := s.small(ctx, metaKey)
		if err != nil {
			return err
		}
		if s.meta, err = parseMeta(b); err == nil {
			return nil
		}
		problem = err.Error()
	}
	s.damaged(Meta, metaKey, problem)
	return nil
}

// parseMeta reads what tidemark.json says, as package archive writes it.
func parseMeta(b []byte) (*meta, error) {
	var f struct {
		Format   int    `json:"format"`
		Replica  string `json:"replica"`
		PageSize uint32 `json:"page_size"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", block.ErrCorrupt, err)
	}
	if f.Format > 1 {
		return nil, fmt.Errorf("%w %d, this program reads 1", block.ErrVersion, f.Format)
	}
	id, err := hex.DecodeString(f.Replica)
	if err != nil || len(id) != 16 || f.Format != 1 || !wal.PageSize(f.PageSize).Valid() {
		return nil, fmt.Errorf("%w: it is not what tidemark writes", block.ErrCorrupt)
	}
	return &meta{replica: [16]byte(id), size: wal.PageSize(f.PageSize)}, nil
}

// readEnds reads what the keys don't tell.
func (s *survey) readEnds(parent context.Context) error {
	g, ctx := errgroup.WithContext(parent)
	g.SetLimit(readers)
	for i := range s.inv.log {
		g.Go(func() error { return s.readLog(ctx, &s.inv.log[i]) })
	}
	for i := range s.inv.snaps {
		g.Go(func() error { return s.readSnapshot(ctx, &s.inv.snaps[i]) })
	}
	for i := range s.inv.marks {
		g.Go(func() error { return s.readMark(ctx, &s.inv.marks[i]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if s.misnamed() {
		return s.readEnds(parent)
	}
	// What can't be read is taken to end where the next one begins.
	next := state.TXID(0)
	for i := range slices.Backward(s.inv.log) {
		o := &s.inv.log[i]
		if o.last == 0 {
			if o.last = o.first; next > o.first {
				o.last = next - 1
			}
		}
		if o.over == "" {
			next = o.first
		}
	}
	s.inv.index()
	return nil
}

// misnamed tells whether all objects are of one replica and tidemark.json is of another:
// then that is what is wrong, and not they. From then on they are held against what they
// say themselves.
func (s *survey) misnamed() bool {
	if s.meta == nil || len(s.owners) != 1 || s.owners[s.meta.replica] {
		return false
	}
	for owner := range s.owners {
		clear(s.bad)
		s.findings = nil
		s.damaged(Meta, metaKey, fmt.Sprintf("it is of replica %x, and all that is here of replica %x", s.meta.replica, owner))
		s.meta.replica = owner
	}
	return true
}

// owned notes to which replica an object belongs.
func (s *survey) owned(replica [16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners[replica] = true
}

// readLog reads the header of a pack, and the index of a segment.
func (s *survey) readLog(ctx context.Context, o *logObject) error {
	if was, ok := s.v.known(o.key); ok && was.size == o.size {
		o.last, o.begin, o.end = was.last, was.begin, was.end
		return nil
	}
	src := source{ctx, s.v, o.key}
	var h segment.Header
	var x *segment.Index
	var err error
	if o.pack {
		b := make([]byte, segment.HeaderSize)
		n, rerr := src.ReadAt(b, 0)
		if rerr != nil && !errors.Is(rerr, io.EOF) {
			return fmt.Errorf("read header of %s: %w", o.key, rerr)
		}
		h, err = segment.ParseHeader(b[:n])
	} else {
		h, x, err = segment.ReadIndex(src, o.size)
	}
	switch {
	case isDamage(err):
		s.damaged(o.class(), o.key, err.Error())
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", o.key, err)
	}
	s.owned(h.Replica)
	if problem := s.meta.owns(h.Replica, h.PageSize, h.First, o.first); problem != "" {
		s.damaged(o.class(), o.key, problem)
		return nil
	}
	o.begin = h.Time
	if x != nil {
		o.last, o.end = x.Trailer.Last, x.Trailer.Time
	}
	return nil
}

// owns says what is wrong with an object's header, or "".
func (m *meta) owns(replica [16]byte, size wal.PageSize, has, want state.TXID) string {
	switch {
	case m != nil && replica != m.replica:
		return fmt.Sprintf("it belongs to replica %x, this is %x", replica, m.replica)
	case m != nil && size != m.size:
		return fmt.Sprintf("its pages have %d bytes, the replica's %d", size, m.size)
	case has != want:
		return fmt.Sprintf("its key says TXID %v, it holds TXID %v", want, has)
	}
	return ""
}

// readSnapshot reads a snapshot's header.
func (s *survey) readSnapshot(ctx context.Context, o *snapObject) error {
	if was, ok := s.v.knownSnapshot(o.key); ok && was.size == o.size {
		*o = was
		return nil
	}
	b := make([]byte, snapshot.HeaderSize)
	n, err := source{ctx, s.v, o.key}.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read header of %s: %w", o.key, err)
	}
	h, err := snapshot.ReadHeader(b[:n])
	if err != nil {
		s.damaged(Snapshot, o.key, err.Error())
		return nil
	}
	s.owned(h.Replica)
	if problem := s.meta.ownsSnapshot(h, *o); problem != "" {
		s.damaged(Snapshot, o.key, problem)
		return nil
	}
	o.time, o.pages = time.UnixMilli(h.Time).UTC(), h.Pages
	return nil
}

func (m *meta) ownsSnapshot(h snapshot.Header, o snapObject) string {
	problem := m.owns(h.Replica, h.PageSize, h.TXID, o.txid)
	if problem == "" && h.Base != o.base {
		problem = fmt.Sprintf("its key says that it adds to TXID %v, it adds to TXID %v", o.base, h.Base)
	}
	return problem
}

// known is an object of the log that an earlier listing showed, and whose ends are
// known.
func (v *verifier) known(key string) (logObject, bool) {
	if v.inv == nil || v.bad[key] {
		return logObject{}, false
	}
	o, ok := v.inv.byKey[key]
	return o, ok && !o.begin.IsZero()
}

// knownSnapshot is known for a snapshot.
func (v *verifier) knownSnapshot(key string) (snapObject, bool) {
	if v.inv == nil || v.bad[key] {
		return snapObject{}, false
	}
	o, ok := v.inv.snapByKey[key]
	return o, ok && !o.time.IsZero()
}

// readMark reads a mark.
func (s *survey) readMark(ctx context.Context, m *markObject) error {
	b, err := s.small(ctx, m.key)
	if errors.Is(err, storage.ErrNotExist) {
		return nil // deleted meanwhile, by whoever made it
	}
	if err != nil {
		return err
	}
	var f struct {
		Format int       `json:"format"`
		TXID   uint64    `json:"txid"`
		Time   time.Time `json:"time"`
	}
	if err = json.Unmarshal(b, &f); err == nil && (f.Format != 1 || f.TXID == 0) {
		err = fmt.Errorf("%w: it is not what tidemark writes", block.ErrCorrupt)
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bad[m.key] = true
		s.findings = append(s.findings, Finding{
			Check: CheckList, Class: Mark, Key: m.key, Severity: Error, Problem: err.Error(),
			Means: "the commit that it names can't be found by it, and retention deletes nothing while it can't be read",
			Do:    "delete it with tidemark mark URL " + m.name + " --delete, and mark the commit again",
		})
		return nil
	}
	m.txid, m.time = state.TXID(f.TXID), f.Time
	return nil
}
