package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"tidemark/replica/local"
)

// ErrNotRunning says that no replicator runs on a database.
var ErrNotRunning = errors.New("no replicator runs on this database")

// requestLook is how often it is looked what came of a request.
const requestLook = 100 * time.Millisecond

// RequestSnapshot has the replicator that runs on the database at path write a
// snapshot now, a full one or any, and waits for it until ctx ends. stateDir is as
// with ReadStatus. If the newest snapshot is of the newest commit already, that is
// what it gives. ErrNotRunning says that there is no replicator.
func RequestSnapshot(ctx context.Context, path, stateDir string, full bool) (StatusSnapshot, error) {
	before, err := ReadStatus(path, stateDir)
	if err != nil {
		return StatusSnapshot{}, err
	}
	if !before.Running {
		return StatusSnapshot{}, fmt.Errorf("%w: %s", ErrNotRunning, path)
	}
	if err := local.RequestSnapshot(before.StateDir, full); err != nil {
		return StatusSnapshot{}, err
	}
	for {
		if err := sleep(ctx, requestLook); err != nil {
			return StatusSnapshot{}, err
		}
		now, err := ReadStatus(path, stateDir)
		if err != nil {
			return StatusSnapshot{}, err
		}
		if s := now.Snapshot; s != nil && (before.Snapshot == nil || !s.Ended.Equal(before.Snapshot.Ended)) && !local.Requested(now.StateDir) {
			if s.Error != "" {
				return *s, fmt.Errorf("the replicator could not write a snapshot, and tries again: %s", s.Error)
			}
			return *s, nil
		}
		if !now.Running {
			return StatusSnapshot{}, fmt.Errorf("%w any more: %s", ErrNotRunning, path)
		}
	}
}
