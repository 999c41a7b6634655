package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot"
	"tidemark/snapshot/state"
	"tidemark/storage/file"
	"tidemark/wal"
)

// replicaOf opens the replica in a folder of the script.
func replicaOf(ts *testscript.TestScript, folder string) *archive.Archive {
	b, err := file.Open(ts.MkAbs(folder), file.Options{})
	ts.Check(err)
	a, err := archive.Open(context.Background(), b)
	ts.Check(err)
	return a
}

func txid(ts *testscript.TestScript, text string) state.TXID {
	n, err := strconv.ParseUint(text, 10, 64)
	ts.Check(err)
	return state.TXID(n)
}

// databaseFile is a database's pages.
type databaseFile struct {
	content []byte
	size    int
}

func (f databaseFile) ReadPages(first wal.PageNo, buf []byte) error {
	copy(buf, f.content[(int(first)-1)*f.size:])
	return nil
}

// snapshotOf FOLDER TXID puts a full snapshot of a commit into the replica in a
// folder.
func snapshotOf(ts *testscript.TestScript, args []string) {
	ctx := context.Background()
	a := replicaOf(ts, args[0])
	dir, err := os.MkdirTemp(ts.MkAbs("."), "snapshot")
	ts.Check(err)
	defer func() { ts.Check(os.RemoveAll(dir)) }()
	res, err := restore.Run(ctx, restore.Options{
		Bucket: a.Bucket(), Output: filepath.Join(dir, "db"), Target: restore.Target{TXID: txid(ts, args[1])}, Logger: slog.New(slog.DiscardHandler),
	})
	ts.Check(err)
	content, err := os.ReadFile(res.Output)
	ts.Check(err)
	size := a.Meta().PageSize
	h := snapshot.Header{PageSize: size, TXID: res.TXID, Pages: res.Pages, Time: res.Time.UnixMilli()}
	_, err = a.PutSnapshot(ctx, h, databaseFile{content, int(size)}, snapshot.WriteOptions{})
	ts.Check(err)
}

// packOf FOLDER FIRST LAST packs the segments of the replica in a folder that
// hold the commits from first to last, and deletes them.
func packOf(ts *testscript.TestScript, args []string) {
	ctx := context.Background()
	a := replicaOf(ts, args[0])
	first, last := txid(ts, args[1]), txid(ts, args[2])
	var run []archive.Segment
	for _, s := range a.Listing().Segments {
		if s.First >= first && s.First <= last {
			run = append(run, s)
		}
	}
	_, err := a.Join(ctx, run, last, archive.JoinOptions{})
	ts.Check(err)
	for _, s := range run {
		ts.Check(a.Bucket().Delete(ctx, s.Key()))
	}
}

// dropLog FOLDER TXID... deletes the segments that begin with commits.
func dropLog(ts *testscript.TestScript, args []string) {
	for _, id := range args[1:] {
		ts.Check(os.Remove(filepath.Join(ts.MkAbs(args[0]), strings.ReplaceAll(archive.SegmentKey(txid(ts, id)), "/", string(filepath.Separator)))))
	}
}
