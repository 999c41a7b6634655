package rebuild

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"tidemark/replica/restore"
	"tidemark/replica/salvage/btree"
	"tidemark/wal"
)

// Options say how a database is rebuilt. The zero value is fine.
type Options struct {
	// LostAndFound is the name of the table for what has no other, "lost_and_found"
	// if empty. If it is taken, _0, _1 … is appended.
	LostAndFound string
	// Free takes the rows of pages on the freelist as well: what was deleted
	// and is still there.
	Free bool
	// Check runs SQLite's integrity_check on the output.
	Check bool
}

// Database writes what can be read of pages to a new database at a path, which must be
// free: restore.ErrExists, restore.ErrStray. The file gets its name only when it is whole
// and synced, so an error leaves nothing behind. Damage is no error: the report tells
// it, and pages that hold nothing give a database that holds nothing. Memory
// stays bounded by eleven bytes a page, the schema, the longest row, and a few megabytes.
func Database(ctx context.Context, pages btree.Pages, path string, opts Options) (report *Report, err error) {
	err = restore.Place(path, func(f *os.File) error {
		report, err = fill(ctx, pages, f.Name(), opts)
		return err
	})
	if err != nil {
		return nil, err
	}
	return report, nil
}

// fill writes the database into an empty file.
func fill(ctx context.Context, pages btree.Pages, path string, opts Options) (*Report, error) {
	file, err := btree.Open(ctx, pages)
	if err != nil {
		return nil, err
	}
	w, err := openWriter(ctx, path, pragmas(file), file.Header().Encoding)
	if err != nil {
		return nil, err
	}
	j := &job{file: file, w: w, opts: opts, report: &Report{Header: file.Header()}}
	err = j.run(ctx)
	if err = errors.Join(err, w.close(context.WithoutCancel(ctx))); err != nil {
		return nil, err
	}
	if err := j.proveSchema(ctx, path); err != nil {
		return nil, err
	}
	return j.report, nil
}

// pragmas are the settings of the output: those of the old database that are kept in
// the file, and those that make writing fast. A power cut can cost nothing, as the
// file has no name yet.
func pragmas(f *btree.File) []string {
	h := f.Header()
	vacuum := 0
	if h.AutoVacuum {
		vacuum = 1
	}
	if h.Incremental {
		vacuum = 2
	}
	return []string{
		fmt.Sprintf("page_size = %d", f.PageSize()),
		fmt.Sprintf("encoding = '%s'", h.Encoding),
		fmt.Sprintf("auto_vacuum = %d", vacuum),
		"locking_mode = EXCLUSIVE",
		"journal_mode = MEMORY",
		"synchronous = OFF",
		"foreign_keys = OFF",
		"ignore_check_constraints = ON",
		"writable_schema = ON", // lets tables be made whose names begin with sqlite_
		"trusted_schema = OFF",
		fmt.Sprintf("user_version = %d", h.UserVersion),
		fmt.Sprintf("application_id = %d", h.ApplicationID),
	}
}

// job is a rebuild under way.
type job struct {
	file   *btree.File
	w      *writer
	opts   Options
	report *Report
	lost   *lostAndFound

	targets  map[string]*target // by the name in the schema
	entries  map[string]int     // how many fields an entry of an index has
	sequence *btree.Object      // sqlite_sequence
	virtual  []btree.Object
}

func (j *job) run(ctx context.Context) error {
	schema, err := j.file.Schema(ctx)
	j.report.Schema = schema
	if err != nil {
		return err
	}
	j.lost = &lostAndFound{
		db: j.w, free: freeName(cmp.Or(j.opts.LostAndFound, "lost_and_found"), schema.Objects),
	}
	for _, step := range []func(context.Context) error{
		j.makeTables, j.makeUnique, j.measureIndexes, j.copyTables, j.copySequence, j.walkIndexes, j.orphans,
		j.makeRest, j.makeVirtual, j.check,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	j.report.LostAndFound = j.lost.report
	return nil
}

// copyTables puts the rows of each table into it.
func (j *job) copyTables(ctx context.Context) error {
	for i := range j.report.Schema.Objects {
		o := &j.report.Schema.Objects[i]
		if o.Type != "table" || o.Root == 0 {
			continue
		}
		if o.Name == "sqlite_sequence" {
			j.sequence = o
			continue
		}
		t := Table{Name: o.Name}
		err := j.copyTable(ctx, &t, o.Root, j.targets[o.Name])
		if err != nil {
			return fmt.Errorf("table %s: %w", o.Name, err)
		}
		j.report.Tables = append(j.report.Tables, t)
	}
	return nil
}

// copyTable puts rows into a table, and into lost_and_found what it does not take.
func (j *job) copyTable(ctx context.Context, t *Table, root wal.PageNo, to *target) (err error) {
	// A statement that is to be stopped costs as much as the insertion itself;
	// the walk asks the context for each page.
	inside := context.WithoutCancel(ctx)
	t.Tree, err = j.file.Walk(ctx, root, func(r *btree.Row) error {
		if to != nil && to.takes(r) {
			err := to.add(inside, j.w, r)
			if err == nil {
				t.Rows++
				return nil
			}
			if !errors.Is(err, errRefused) {
				return err
			}
			t.Why = cmp.Or(t.Why, err.Error())
		}
		t.Refused++
		return j.lost.add(inside, r)
	})
	return err
}

// walkIndexes claims the pages of the indexes, so that they are no orphans. An entry
// that cannot be the index's, by the number of its fields, is a row of something else,
// and so may be every one of an index that could not be made.
func (j *job) walkIndexes(ctx context.Context) error {
	inside := context.WithoutCancel(ctx)
	for _, o := range j.report.Schema.Objects {
		if o.Type == "table" || o.Root == 0 {
			continue
		}
		want := j.entries[o.Name]
		_, err := j.file.WalkIndex(ctx, o.Root, func(r *btree.Row) error {
			if want != 0 && (len(r.Values) == want || r.Flaw != btree.Sound) {
				return nil
			}
			return j.lost.add(inside, r)
		})
		if err != nil {
			return fmt.Errorf("%s %s: %w", o.Type, o.Name, err)
		}
	}
	return nil
}

// orphans puts what no tree reaches into lost_and_found.
func (j *job) orphans(ctx context.Context) (err error) {
	inside := context.WithoutCancel(ctx)
	j.report.Orphans, err = j.file.Orphans(ctx, btree.OrphanOptions{Free: j.opts.Free}, func(r *btree.Row) error {
		return j.lost.add(inside, r)
	})
	return err
}
