package check

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"tidemark/storage"
)

// probePrefix begins the names of the objects that are put to see whether storage
// works. They lie beside the replica's and are deleted again.
const probePrefix = "tidemark-check-"

// probeSize is their length.
const probeSize = 1 << 10

const (
	mendStorage = "check the URL, the credentials, and that the service can be reached from here; they must allow to list, read, write and delete"
	mendFence   = "use storage or an endpoint that honours If-None-Match; or say --unfenced if only one tidemark ever writes there"
)

// storage looks at the bucket, and at the replica in it.
func (c *checker) storage(ctx context.Context) error {
	if c.opts.Bucket == nil {
		c.noBucket(c.opts.BucketErr)
		return nil
	}
	key := probePrefix + rand.Text()
	body := make([]byte, probeSize)
	_, _ = rand.Read(body) // it never fails
	err := c.probe(ctx, key, body)
	if derr := c.opts.Bucket.Delete(context.WithoutCancel(ctx), key); err == nil && derr != nil {
		err = fmt.Errorf("delete it again: %w", derr)
	}
	if err == nil {
		err = c.gone(ctx, key)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, storage.ErrNoBucket):
		c.noBucket(err)
		return nil
	case err != nil:
		c.fail(Storage, mendStorage, "an object of %d bytes that was put there: %v", probeSize, err)
		return nil
	}
	// The conditions were looked at before; people read it in this order.
	last := len(c.items) - 1
	at := Item{ID: Storage, Level: OK, Finding: "takes a write, gives back what was written, and deletes it again"}
	c.items = append(c.items[:last], at, c.items[last])
	return c.replica(ctx)
}

// noBucket tells that there is no bucket.
func (c *checker) noBucket(err error) {
	if errors.Is(err, storage.ErrNoBucket) && c.opts.MayCreate {
		c.warn(Storage, "nothing: tidemark replicate makes it", "not looked at: the folder does not exist yet")
		return
	}
	c.fail(Storage, mendStorage, "%v", err)
}

// probe puts an object, puts it again under the condition that there is none, and
// reads it back.
func (c *checker) probe(ctx context.Context, key string, body []byte) error {
	b := c.opts.Bucket
	if err := b.Put(ctx, key, bytes.NewReader(body), storage.PutOptions{Size: probeSize}); err != nil {
		return fmt.Errorf("put it: %w", err)
	}
	other := bytes.Repeat([]byte{'x'}, probeSize)
	err := b.Put(ctx, key, bytes.NewReader(other), storage.PutOptions{IfAbsent: true, Size: probeSize})
	want := body
	switch {
	case err == nil:
		want = other
		c.unfenced("the store overwrites an object that was to be put only if absent")
	case errors.Is(err, storage.ErrUnconditional):
		c.unfenced("the store knows no conditional writes")
	case errors.Is(err, storage.ErrExists):
		c.ok(Conditional, "an object that is there is not overwritten")
	default:
		return fmt.Errorf("put it if absent: %w", err)
	}
	r, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return fmt.Errorf("read it back: %w", err)
	}
	got, err := io.ReadAll(io.LimitReader(r, 2*probeSize))
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("read it back: %w", err)
	}
	if !bytes.Equal(got, want) {
		return errors.New("it is not what is read back")
	}
	return nil
}

// unfenced tells that two writers would not notice each other.
func (c *checker) unfenced(what string) {
	say := c.fail
	if c.opts.Unfenced {
		say = c.warn
	}
	say(Conditional, mendFence, "%s: two replicators could mix their histories unnoticed", what)
}

// gone makes sure that the object was deleted.
func (c *checker) gone(ctx context.Context, key string) error {
	r, err := c.opts.Bucket.Get(ctx, key, 0, 1)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("see whether it is gone: %w", err)
	}
	return errors.Join(errors.New("it is still there after it was deleted"), r.Close())
}
