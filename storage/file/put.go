package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"tidemark/storage"
)

// Put implements [storage.Bucket].
func (b *Bucket) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if err := b.put(ctx, key, body, opts); err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}

func (b *Bucket) put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	if opts.IfAbsent {
		// The link decides; this only spares the writing of a lost cause.
		if _, err := os.Lstat(b.path(key)); err == nil {
			return storage.ErrExists
		}
	}
	temp, err := b.createTemp()
	if err != nil {
		return err
	}
	// After a rename there is nothing left to remove. After a link the object
	// is safe, and a temporary name that stays is removed by a later Open.
	defer func() { _ = os.Remove(temp.Name()) }()
	if err := fill(ctx, temp, body, opts.Size); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.publish(temp.Name(), key, opts)
}

// createTemp creates a temporary file, and the folder for it if need be.
func (b *Bucket) createTemp() (*os.File, error) {
	dir := filepath.Join(b.root, tempDir)
	f, err := os.CreateTemp(dir, "put-*")
	if absent(err) {
		// Mkdir, not MkdirAll: a root that is gone is not made again.
		if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, b.missing(err)
		}
		f, err = os.CreateTemp(dir, "put-*")
	}
	if err != nil {
		return nil, b.missing(err)
	}
	return f, nil
}

// fill writes body to f, syncs it and closes it.
func fill(ctx context.Context, f *os.File, body io.Reader, size int64) error {
	src := &aliveReader{src: body, alive: ctx.Err}
	n, err := io.Copy(f, src)
	switch {
	case src.err != nil:
		err = fmt.Errorf("read the body: %w", src.err)
	case err != nil:
		err = classify(err)
	case size >= 0 && n != size:
		err = fmt.Errorf("the body has %d bytes, not %d", n, size)
	default:
		err = classify(f.Sync())
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// publish gives the complete file temp the name of key and makes the name
// durable.
func (b *Bucket) publish(temp, key string, opts storage.PutOptions) error {
	dir := path.Dir(key)
	if err := b.makeDir(dir); err != nil {
		return err
	}
	target := b.path(key)
	var err error
	if opts.IfAbsent {
		err = linkNew(temp, target)
	} else {
		err = os.Rename(temp, target)
	}
	switch {
	case errors.Is(err, fs.ErrExist) && opts.IfAbsent:
		return storage.ErrExists
	case err != nil:
		return classify(err)
	}
	return syncDir(filepath.Dir(target))
}

// linkNew moves temp to target unless target exists: by a hard link or, on
// file systems that have none, by a rename that does not replace.
func linkNew(temp, target string) error {
	err := os.Link(temp, target)
	if err == nil || errors.Is(err, fs.ErrExist) || !noLinks(err) {
		return err
	}
	return renameNew(temp, target)
}

// noLinks reports whether a failed link may mean that the file system has no
// hard links. Each file system says it in its own way.
func noLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) ||
		errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EMLINK)
}

// makeDir makes the folder dir, a slash-separated path below the root, and
// sees to it that its name and those of its parents are durable, whoever made
// them.
func (b *Bucket) makeDir(dir string) error {
	if dir == "." {
		return nil
	}
	full := b.path(dir)
	err := os.Mkdir(full, dirMode)
	if absent(err) {
		if err := b.makeDir(path.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(full, dirMode)
	}
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return b.missing(err)
	}
	if !made && b.isDurable(dir) {
		return nil
	}
	if err := b.makeDir(path.Dir(dir)); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(full)); err != nil {
		return err
	}
	b.setDurable(dir)
	return nil
}

func (b *Bucket) isDurable(dir string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.durable[dir]
}

func (b *Bucket) setDurable(dir string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.durable[dir] = true
}

// aliveReader reads from src while alive returns nil: it makes a body end with
// the context of its Put.
type aliveReader struct {
	src   io.Reader
	alive func() error
	// err is what reading failed with. It tells a broken body from a full disk.
	err error
}

// Read implements io.Reader.
func (r *aliveReader) Read(p []byte) (int, error) {
	if r.err = r.alive(); r.err != nil {
		return 0, r.err
	}
	n, err := r.src.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
