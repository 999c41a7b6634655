package prune

import (
	"tidemark/replica/archive"
	"tidemark/replica/retain"
	"tidemark/snapshot/state"
)

// TellSnapshot saves the reading of a snapshot's header: its time, or that it is
// bad.
func (k *Known) TellSnapshot(s retain.Snapshot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.snaps == nil {
		k.snaps = map[string]retain.Snapshot{}
	}
	k.snaps[archive.SnapshotKey(s.TXID, s.Base)] = s
}

// TellSegment saves the reading of a segment's last commit.
func (k *Known) TellSegment(first, last state.TXID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ends == nil {
		k.ends = map[string]state.TXID{}
	}
	k.ends[archive.SegmentKey(first)] = last
}
