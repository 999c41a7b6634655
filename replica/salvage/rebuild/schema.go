package rebuild

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"tidemark/replica/salvage/btree"
)

// fail notes an object that could not be made.
func (j *job) fail(o btree.Object, why error) {
	j.report.Failed = append(j.report.Failed, Failure{Type: o.Type, Name: o.Name, SQL: o.SQL, Why: why.Error()})
}

// create makes an object. What SQLite does not take is noted; an error is the output's.
func (j *job) create(ctx context.Context, o btree.Object) (made bool, err error) {
	if o.Flaw != btree.Sound && o.Root != 0 {
		j.fail(o, errors.New("its row in the schema is damaged"))
		return false, nil
	}
	err = j.w.exec(ctx, o.SQL)
	if err == nil {
		return true, nil
	}
	if err = refusal(err); errors.Is(err, errRefused) && ctx.Err() == nil {
		j.fail(o, err)
		return false, nil
	}
	return false, fmt.Errorf("make %s %s: %w", o.Type, o.Name, err)
}

// makeTables makes the tables, empty.
func (j *job) makeTables(ctx context.Context) error {
	j.targets = map[string]*target{}
	for _, o := range j.report.Schema.Objects {
		if o.Type != "table" || o.Name == "sqlite_sequence" { // which SQLite makes when it needs it
			continue
		}
		s, err := inspect(o.SQL, o.Type, o.Name)
		switch {
		case err != nil:
			j.fail(o, err)
			continue
		case s.virtual:
			j.virtual = append(j.virtual, o)
			continue
		}
		made, err := j.create(ctx, o)
		if err != nil {
			return err
		}
		if !made {
			continue
		}
		if j.targets[o.Name], err = newTarget(ctx, j.w, o.Name); err != nil {
			return err
		}
	}
	return nil
}

// makeUnique makes the UNIQUE indexes, before there are rows: so a row that they
// don't allow is refused, and not the index.
func (j *job) makeUnique(ctx context.Context) error {
	for _, o := range j.report.Schema.Objects {
		if o.Type != "index" || o.SQL == "" {
			continue
		}
		if s, err := inspect(o.SQL, o.Type, o.Name); err != nil || !s.unique {
			continue
		}
		if _, err := j.create(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// measureIndexes asks how many fields an entry of each index has. Those that are
// made later are made for that, too, while the tables are empty.
func (j *job) measureIndexes(ctx context.Context) error {
	j.entries = map[string]int{}
	for _, o := range j.report.Schema.Objects {
		if o.Type != "index" {
			continue
		}
		s, err := inspect(o.SQL, o.Type, o.Name)
		brief := err == nil && !s.unique && j.w.exec(ctx, o.SQL) == nil
		var n int
		if err := j.w.conn.QueryRowContext(ctx, "SELECT count(*) FROM pragma_index_xinfo(?)", o.Name).Scan(&n); err != nil {
			return fmt.Errorf("look at index %s: %w", o.Name, err)
		}
		j.entries[o.Name] = n
		if !brief {
			continue
		}
		if err := j.w.exec(ctx, "DROP INDEX "+quoted(o.Name)); err != nil {
			return fmt.Errorf("look at index %s: %w", o.Name, err)
		}
	}
	return nil
}

// makeRest makes what needs the rows to be there: the other indexes; or must not see
// them come: views and triggers.
func (j *job) makeRest(ctx context.Context) error {
	if err := j.w.commit(ctx); err != nil {
		return err
	}
	for _, kind := range []string{"index", "view", "trigger"} {
		for _, o := range j.report.Schema.Objects {
			if o.Type != kind || o.SQL == "" && kind == "index" { // SQLite made it with its table
				continue
			}
			s, err := inspect(o.SQL, o.Type, o.Name)
			if err != nil {
				j.fail(o, err)
				continue
			}
			if s.unique {
				continue
			}
			if _, err := j.create(ctx, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeVirtual puts the virtual tables into the schema. To make them as usual would make
// the tables that they keep their content in, which are here already.
func (j *job) makeVirtual(ctx context.Context) error {
	for _, o := range j.virtual {
		err := j.w.exec(ctx, `INSERT INTO sqlite_schema(type, name, tbl_name, rootpage, sql)
			VALUES('table', ?, ?, 0, ?)`, o.Name, o.Name, o.SQL)
		if err != nil {
			return fmt.Errorf("make table %s: %w", o.Name, err)
		}
	}
	return nil
}

// proveSchema opens the output anew. A virtual table whose statement makes no sense
// would make the whole schema unreadable; then there are none.
func (j *job) proveSchema(ctx context.Context, path string) error {
	if len(j.virtual) == 0 {
		return nil
	}
	err := query(ctx, path, "SELECT count(*) FROM sqlite_schema")
	if err == nil || !errors.Is(refusal(err), errRefused) && !malformed(err) {
		return err
	}
	for _, o := range j.virtual {
		j.fail(o, err)
	}
	return query(ctx, path, "PRAGMA writable_schema = ON",
		"DELETE FROM sqlite_schema WHERE type = 'table' AND rootpage = 0")
}

// malformed tells SQLite's word for a schema that it cannot parse.
func malformed(err error) bool { return strings.Contains(err.Error(), "malformed database schema") }

// query runs statements on a connection of their own.
func query(ctx context.Context, path string, statements ...string) (err error) {
	pool, err := sql.Open("sqlite", address(path))
	if err != nil {
		return fmt.Errorf("open the output: %w", err)
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	conn, err := pool.Conn(ctx)
	if err != nil {
		return fmt.Errorf("open the output: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, s := range statements {
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("read the new schema: %w", err)
		}
	}
	return nil
}

// copySequence puts back the counters of AUTOINCREMENT. Where one is lost, what
// SQLite counted while the rows were inserted stays. A row that counts for no table, or
// for one that has its counter, is a row of something else.
func (j *job) copySequence(ctx context.Context) error {
	if err := j.w.commit(ctx); err != nil || j.sequence == nil {
		return err
	}
	there := 0
	err := j.w.conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'").Scan(&there)
	if err != nil {
		return fmt.Errorf("look for sqlite_sequence: %w", err)
	}
	t, counted := Table{Name: j.sequence.Name}, map[string]bool{}
	t.Tree, err = j.file.Walk(ctx, j.sequence.Root, func(r *btree.Row) error {
		v, name := r.Values, ""
		if there != 0 && r.Flaw == btree.Sound && len(v) == 2 && v[0].Type == btree.Text {
			name, _ = j.file.Header().Encoding.Decode(v[0].Bytes)
		}
		if j.targets[name] == nil || counted[name] {
			t.Refused++
			return j.lost.add(ctx, r)
		}
		counted[name] = true
		args, _ := j.w.bind(nil, v)
		if err := j.w.exec(ctx, "DELETE FROM sqlite_sequence WHERE name = ?", args[0]); err != nil {
			return err
		}
		t.Rows++
		return j.w.exec(ctx, "INSERT INTO sqlite_sequence(name, seq) VALUES(?, ?)", args...)
	})
	j.report.Tables = append(j.report.Tables, t)
	return err
}

// check runs SQLite's own check, if asked to.
func (j *job) check(ctx context.Context) (err error) {
	if !j.opts.Check {
		return nil
	}
	rows, err := j.w.conn.QueryContext(ctx, "PRAGMA integrity_check(100)")
	if err != nil {
		return fmt.Errorf("check the output: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var lines []string
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			return fmt.Errorf("check the output: %w", err)
		}
		lines = append(lines, line)
	}
	j.report.Integrity = strings.Join(lines, "\n")
	return rows.Err()
}
