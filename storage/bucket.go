// Package storage is what tidemark asks of a place that keeps objects: a
// [Bucket] of immutable byte strings under ordered keys. It knows nothing of
// what the bytes mean; the archive's layout belongs to package replica.
//
// The backends are [tidemark/storage/s3], [tidemark/storage/file] and
// [tidemark/storage/mem]. All three pass [tidemark/storage/storagetest], which
// defines every clause of the contract below; there is no behaviour that a
// caller "must not rely on".
package storage

import (
	"context"
	"errors"
	"io"
	"time"
)

// Errors that callers branch on. Backends wrap them with the key and the
// cause; test with errors.Is.
var (
	// ErrNotExist says that there is no object with the key.
	ErrNotExist = errors.New("no such object")
	// ErrExists says that Put with IfAbsent found an object at the key.
	ErrExists = errors.New("object exists already")
	// ErrNoBucket says that the bucket or folder itself does not exist.
	ErrNoBucket = errors.New("no such bucket")
	// ErrDenied says that the credentials are wrong or may not do this.
	ErrDenied = errors.New("access denied")
	// ErrUnreachable says that the service could not be reached, or that the
	// connection to it broke off or fell silent.
	ErrUnreachable = errors.New("storage unreachable")
	// ErrUnconditional says that the store refused a Put with IfAbsent because
	// it knows no conditions. Nothing was stored. [Unfenced] does without them.
	ErrUnconditional = errors.New("the storage has no conditional writes")
	// ErrRange says that a ranged Get begins past the object's end.
	ErrRange = errors.New("range outside the object")
	// ErrInvalidKey says that a key breaks the rules of [ValidKey].
	ErrInvalidKey = errors.New("invalid object key")
)

// Info describes one object of a listing.
type Info struct {
	// Key is the object's key relative to the bucket's prefix.
	Key string
	// Size is the object's length in bytes.
	Size int64
	// Modified is when the object was put, by the storage's clock; zero where it
	// keeps no such time.
	Modified time.Time
}

// PutOptions are the choices of one [Bucket.Put].
type PutOptions struct {
	// IfAbsent makes Put fail with ErrExists, and change nothing, if an
	// object with the key exists. Of any number of concurrent Puts with
	// IfAbsent to one key exactly one succeeds.
	IfAbsent bool
	// Size is the body's length in bytes if it is known, or -1. A body that
	// is shorter or longer than a known size fails the Put and leaves no
	// object.
	Size int64
}

// Bucket is a flat, ordered set of immutable objects under one prefix. All
// methods are safe for concurrent use, honour their context, and return errors
// that name the key.
//
// An object is visible to Get and List exactly when Put has returned nil (or
// failed after it took effect, which callers resolve by reading back), whole,
// and never in part.
type Bucket interface {
	// Put stores body under key and returns when it is durable. Without
	// IfAbsent an existing object is replaced atomically. Put reads body to
	// its end or until an error; it does not close it. If body is also an
	// io.ReadSeeker, retries may rewind it to where it stood at the call.
	// Errors: ErrExists, ErrUnconditional, ErrInvalidKey, ErrNoBucket,
	// ErrDenied, ErrUnreachable, or the body's own read error (wrapped).
	Put(ctx context.Context, key string, body io.Reader, opts PutOptions) error

	// Get opens the bytes [off, off+n) of an object. With n < 0 the range
	// runs to the object's end; a range that reaches past the end is cut
	// there; off == size gives an empty body; off > size is ErrRange and
	// off < 0 too. The caller closes the reader, and it is not safe for
	// concurrent use. Reads that stop short of the promised bytes fail with
	// an error that neither is nor wraps io.EOF or io.ErrUnexpectedEOF: those
	// say, also through io.ReadFull, that an object has ended.
	// Errors: ErrNotExist, ErrRange, ErrInvalidKey, ErrNoBucket, ErrDenied,
	// ErrUnreachable.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)

	// List calls fn for every object whose key begins with prefix and is
	// greater than after (after == "": from the first), in ascending byte
	// order of keys. It stops at fn's first error and returns it as it is.
	// A bucket without such objects is no error. prefix need not end at a
	// slash; one that no valid key begins with matches nothing. The order holds
	// for objects that are put or deleted meanwhile too, but whether they are
	// shown is open. Errors: ErrNoBucket, ErrDenied, ErrUnreachable.
	List(ctx context.Context, prefix, after string, fn func(Info) error) error

	// Delete removes an object. Deleting one that does not exist is no
	// error. Errors: ErrInvalidKey, ErrNoBucket, ErrDenied, ErrUnreachable.
	Delete(ctx context.Context, key string) error
}
