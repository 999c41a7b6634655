// Package prune carries out on a replica what [retain.Policy] plans for it.
//
// [Look] reads what there is, the policy plans, [Inventory.Run] deletes:
//
//	v, err := prune.Look(ctx, a, nil)
//	plan := policy.Plan(v.State, now)
//	res, err := v.Run(ctx, plan)
//
// It deletes in the plan's order, one object after the other, so that it can end
// anywhere: what is there then can be restored as before. It runs beside anything:
// restores plan again when an object is gone, a replicator adds at the end only,
// and marks are read again before and while it deletes.
package prune

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"tidemark/replica/retain"
	"tidemark/storage"
)

const (
	// marksEvery is after how many deletions the marks are read again.
	marksEvery = 100
	// maxRefused is how many deletions may be refused in a row. Objects can be
	// locked for a time each; credentials that may not delete are refused at
	// each.
	maxRefused = 5
)

// Refusal is an object that storage refused to delete.
type Refusal struct {
	Object
	// Err is what it said; it is a storage.ErrDenied.
	Err error
}

// Result is what a run did.
type Result struct {
	// Deleted are the objects that are gone, in the order of their deletion.
	Deleted []Object
	// Refused are those that storage refused to delete. They stay, and with them
	// what they need.
	Refused []Refusal
	// Spared is how many of the plan's items stay all the same: those that a mark
	// needs that was made after the plan, those that a refused object needs, and
	// all that is left if storage refuses everything.
	Spared int
}

// Bytes is the length of what was deleted.
func (r Result) Bytes() (n int64) {
	for _, o := range r.Deleted {
		n += o.Size
	}
	return n
}

// Run deletes what a plan for the inventory says. That storage refuses something is
// no error, but told in the result, and is not tried again; if it refuses all, that
// ends the run. An error ends it, too, and the result says how far it came. The
// archive does not learn of it: its listing is as before.
func (v *Inventory) Run(ctx context.Context, plan retain.Plan) (Result, error) {
	r := run{Inventory: v, plan: plan, marks: v.State.Marks}
	err := r.run(ctx)
	r.res.Spared = len(plan.Goes) - r.deleted - r.refused
	return r.res, err
}

// run is a Run under way.
type run struct {
	*Inventory
	// plan is what is left to be done; the first done of its items are.
	plan retain.Plan
	done int
	// marks are those that the plan knows.
	marks []retain.Mark
	// deleted and refused count items, row the refusals in a row.
	deleted, refused, row int
	res                   Result
}

func (r *run) run(ctx context.Context) error {
	for n := 0; r.done < len(r.plan.Goes); n++ {
		if n%marksEvery == 0 {
			if err := r.heedMarks(ctx); err != nil {
				return err
			}
			if r.done == len(r.plan.Goes) {
				return nil
			}
		}
		item := r.plan.Goes[r.done]
		refused, err := r.delete(ctx, item)
		switch {
		case err != nil:
			return err
		case !refused:
			r.done++
			r.deleted++
			r.row = 0
		default:
			r.refused++
			if r.row++; r.row == maxRefused {
				return nil
			}
			r.plan, r.done = r.plan.Without(r.done), 0
		}
	}
	return nil
}

// heedMarks reads the marks again, and spares what new ones need.
func (r *run) heedMarks(ctx context.Context) error {
	marks, err := listMarks(ctx, r.arch)
	if err != nil {
		return err
	}
	var made []retain.Mark
	for _, m := range marks {
		if !slices.Contains(r.marks, m) {
			made = append(made, m)
		}
	}
	if len(made) > 0 {
		r.plan, r.done = r.plan.Rest(r.done, made), 0
		r.marks = append(slices.Clip(r.marks), made...)
	}
	return nil
}

// delete deletes an item's objects.
func (r *run) delete(ctx context.Context, item retain.Item) (refused bool, err error) {
	for _, o := range r.Objects(item) {
		err := r.arch.Bucket().Delete(ctx, o.Key)
		switch {
		case errors.Is(err, storage.ErrDenied):
			r.res.Refused = append(r.res.Refused, Refusal{o, err})
			refused = true
		case err != nil:
			return refused, fmt.Errorf("prune: %w", err)
		default:
			r.res.Deleted = append(r.res.Deleted, o)
		}
	}
	return refused, nil
}
