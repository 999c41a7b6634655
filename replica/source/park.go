package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
)

// Park closes all connections but the pin's, so that a database in which nothing
// happens costs as little as can be. Until Unpark nothing may be called but Parked,
// Resting, InPlace and Close. Without a pin it does nothing.
func (d *DB) Park() error {
	if d.pinned < 0 {
		return nil
	}
	var errs []error
	for _, c := range []**sql.Conn{&d.writer, &d.ckpt, &d.pins[1-d.pinned]} {
		if *c != nil {
			errs = append(errs, (*c).Close())
			*c = nil
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close connections to %s: %w", d.path, err)
	}
	d.rest, _ = d.restful()
	return nil
}

// Parked tells whether connections are closed.
func (d *DB) Parked() bool { return d.pinned >= 0 && d.pins[1-d.pinned] == nil }

// Unpark opens again what Park has closed. It is ErrReplaced if another file has
// taken the database's place: a connection to that would read it as this one.
func (d *DB) Unpark(ctx context.Context) error {
	if !d.Parked() {
		return nil
	}
	if err := d.InPlace(); err != nil {
		return err
	}
	err := d.connect(ctx)
	if err == nil {
		err = d.InPlace()
	}
	if err != nil {
		return errors.Join(d.explain(err), d.Park())
	}
	return nil
}

// Resting tells, for a few calls to the system, that nothing has happened to a
// database since it was parked: to the file, to its WAL, or to what is at its path.
// All else is to be found out with connections.
func (d *DB) Resting() bool {
	now, err := d.restful()
	return err == nil && now == d.rest && d.InPlace() == nil
}

// rest is what a database and its WAL look like while nothing happens to them.
type rest struct{ file, wal Stamp }

func (d *DB) restful() (r rest, err error) {
	if r.file, err = d.Stamp(); err != nil {
		return r, err
	}
	info, err := os.Stat(d.WALPath())
	if err != nil {
		return r, fmt.Errorf("look at the WAL: %w", err)
	}
	r.wal = stampOf(info)
	return r, nil
}
