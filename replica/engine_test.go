package replica_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"tidemark/replica"
	"tidemark/replica/archive"
	"tidemark/replica/restore"
	"tidemark/snapshot/state"
	"tidemark/storage"
	"tidemark/storage/file"
)

func TestTry(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.db")
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("create table t(n integer primary key, v blob)"); err != nil {
		t.Fatal(err)
	}
	var b storage.Bucket
	b, err = file.Open(filepath.Join(dir, "bucket"), file.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready := make(chan struct{})
	done := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var rep replica.Report
	go func() {
		r, err := replica.Run(ctx, replica.Options{Path: path, Bucket: b, SyncInterval: time.Second, Logger: log, Ready: func() { close(ready) }})
		rep = r
		done <- err
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	start := time.Now()
	n := 0
	for ; time.Since(start) < 3*time.Second; n++ {
		if _, err := db.Exec("insert into t values(?, randomblob(100))", n); err != nil {
			t.Fatal(n, err)
		}
	}
	fmt.Println("commits", n)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%+v\n", rep)
	for _, id := range []state.TXID{0, 1, 2, 500, 1000} {
		out := filepath.Join(dir, fmt.Sprintf("r%d.db", id))
		res, err := restore.Run(t.Context(), restore.Options{Bucket: b, Output: out, Target: restore.Target{TXID: id}, Integrity: restore.Full, Logger: log})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%+v\n", res)
		r, _ := sql.Open("sqlite", out)
		var c int
		if err := r.QueryRow("select count(*) from t").Scan(&c); err != nil {
			t.Fatal(err)
		}
		r.Close()
		if c != int(res.TXID)-1 {
			t.Fatal(c, res.TXID)
		}
	}
	a, err := archive.Open(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	a.Commits(t.Context(), archive.Query{Limit: 3}, func(c archive.Commit) error { fmt.Printf("%+v\n", c); return nil })
}
