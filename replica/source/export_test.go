package source

import "context"

// Aside has something happen in a moment without a pin, after all was read.
func (d *DB) Aside(ctx context.Context, drain Drainer, happen func()) error {
	index, err := d.readTo(drain)
	if err != nil {
		return err
	}
	d.unpin(ctx)
	happen()
	return d.standAgain(ctx, drain, index)
}
