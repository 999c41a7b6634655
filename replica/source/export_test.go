package source

import (
	"context"
	"errors"
)

// Aside has something happen in a moment without a pin, after all was read.
func (d *DB) Aside(ctx context.Context, drain Drainer, happen func()) error {
	index, ok, err := d.readTo(drain)
	if err != nil || !ok {
		return errors.Join(err, errors.New("something was committed"))
	}
	d.unpin(ctx)
	happen()
	return d.standAgain(ctx, drain, index)
}
