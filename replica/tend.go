package replica

import (
	"errors"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"tidemark/replica/archive"
	"tidemark/replica/upkeep"
)

// maxTurns is how many archives of a process are packed and pruned at a time.
const maxTurns = 2

// tend begins to look after the archive, which was just listed. It goes on until
// the uploads end: see endShipper.
func (s *shipper) tend() {
	o := s.opts
	var turn *semaphore.Weighted
	if o.Process != nil {
		turn = o.Process.turns
	}
	run := upkeep.Run(upkeep.New(s.arch, upkeep.Options{
		Packing: o.packing, NoPacks: o.NoPacks, Retain: o.Retain, Policy: o.Retention,
		Cache:  upkeep.NewCache(s.dir.FS(), filepath.Join(s.dir.Path(), "cache"), o.CacheSize),
		Writer: o.Writer, Turn: turn, Now: o.Now, Logger: s.log,
		Packed: s.packed, Pruned: s.status.pruned,
	}))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.upkeep = run
}

// tended is who looks after the archive, nil as long as nobody does.
func (s *shipper) tended() *upkeep.Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.upkeep
}

// packed takes note of a pack that was put.
func (s *shipper) packed(bytes int64) {
	s.status.packed(bytes)
	s.report.addBytes(bytes)
}

// uploaded hands on a segment that is in the archive now, with its file.
func (s *shipper) uploaded(seg sealed) {
	var err error
	if run := s.tended(); run != nil {
		err = run.Put(archive.Segment{First: seg.first, Size: seg.size}, seg.last, seg.path)
	} else {
		err = s.dir.FS().Remove(seg.path)
	}
	if err != nil {
		s.log.Warn("an uploaded segment stays in the spool until the next start", slog.Any("err", err))
	}
}

// snapshotted hands on a snapshot that is in the archive now.
func (s *shipper) snapshotted(snap archive.Snapshot, at time.Time) {
	if run := s.tended(); run != nil {
		run.PutSnapshot(snap, at)
	}
}

// freeDisk gives up what can be read again, if an error says that the disk is full.
func (r *replicator) freeDisk(err error) {
	if r.ship != nil {
		r.ship.freeDisk(err)
	}
}

func (s *shipper) freeDisk(err error) {
	if run := s.tended(); run != nil && errors.Is(err, syscall.ENOSPC) {
		run.FreeDisk()
	}
}
