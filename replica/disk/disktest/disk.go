// Package disktest gives tests a file system on which every single operation can
// fail or be the last one, and which knows what a power cut would leave.
package disktest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"tidemark/replica/disk"
)

// ErrCrashed is what every operation gives after a crash.
var ErrCrashed = errors.New("crashed")

// Plan decides about operations. It is told their number, from 1 on, and what
// they do. It is called with a lock held, one at a time.
type Plan func(n int, op string) Verdict

// Verdict is what becomes of an operation.
type Verdict struct {
	// Err fails it; nil lets it pass. A write that fails has written a half.
	Err error
	// Crash lets it and all after it fail with ErrCrashed.
	Crash bool
	// Late fails it after it was done. Only [Disk.Do] can.
	Late bool
}

// Disk is a file system, the operating system's, with a plan. What only reads a
// name or a file counts as an operation, too. It is safe for concurrent use.
type Disk struct {
	plan Plan
	// OnCrash, if not nil, is called once when it crashes.
	OnCrash func()

	mu      sync.Mutex
	n       int
	crashed bool
	// names are the files as they are called now, kept as a power cut would
	// leave them.
	names, kept map[string]*node
}

// node is a file's content as of its last sync.
type node struct{ synced []byte }

var _ disk.FS = (*Disk)(nil)

// New gives one with a plan; nil lets all pass.
func New(plan Plan) *Disk {
	if plan == nil {
		plan = func(int, string) Verdict { return Verdict{} }
	}
	return &Disk{plan: plan, names: map[string]*node{}, kept: map[string]*node{}}
}

// Ops is the number of operations until now.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.n
}

// Crashed tells whether it has crashed.
func (d *Disk) Crashed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.crashed
}

// Do counts something else as an operation, such as a request to storage: fn,
// unless the plan says otherwise.
func (d *Disk) Do(op string, fn func() error) error {
	d.mu.Lock()
	v := d.next(op)
	d.mu.Unlock()
	if v.Err != nil && !v.Late {
		return v.Err
	}
	return errors.Join(fn(), v.Err)
}

// next asks the plan.
func (d *Disk) next(op string) Verdict {
	if d.crashed {
		return Verdict{Err: ErrCrashed}
	}
	d.n++
	v := d.plan(d.n, op)
	if v.Crash {
		d.crashed = true
		v.Err = ErrCrashed
		if d.OnCrash != nil {
			d.OnCrash()
		}
	}
	return v
}

// do runs an operation and, if it was done, what it means for a power cut.
func (d *Disk) do(op, name string, fn func() error, then func()) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v := d.next(op + " " + filepath.Base(name)); v.Err != nil {
		return &fs.PathError{Op: op, Path: name, Err: v.Err}
	}
	if err := fn(); err != nil {
		return err
	}
	if then != nil {
		then()
	}
	return nil
}

// MkdirAll implements [disk.FS].
func (d *Disk) MkdirAll(path string, perm fs.FileMode) error {
	return d.do("mkdir", path, func() error { return os.MkdirAll(path, perm) }, nil)
}

// Rename implements [disk.FS].
func (d *Disk) Rename(from, to string) error {
	return d.do("rename", to, func() error { return os.Rename(from, to) }, func() {
		d.names[to] = d.names[from]
		delete(d.names, from)
	})
}

// Remove implements [disk.FS].
func (d *Disk) Remove(name string) error {
	return d.do("remove", name, func() error { return os.Remove(name) }, func() { delete(d.names, name) })
}

// ReadDir implements [disk.FS].
func (d *Disk) ReadDir(name string) (entries []fs.DirEntry, err error) {
	err = d.do("list", name, func() error { entries, err = os.ReadDir(name); return err }, nil)
	return entries, err
}

// OpenFile implements [disk.FS].
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f := &file{disk: d}
	err := d.do("open", name, func() (err error) { f.File, err = os.OpenFile(name, flag, perm); return err }, func() {
		if d.names[name] == nil && flag&os.O_CREATE != 0 {
			d.names[name] = &node{}
		}
		f.node = d.names[name]
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// file is an open one.
type file struct {
	*os.File
	disk *Disk
	node *node // nil for a folder, and for a file that was there before
}

// Write implements [io.Writer]. One that fails has written a half.
func (f *file) Write(p []byte) (n int, err error) { return f.write(p, f.File.Write) }

// WriteAt implements [io.WriterAt], likewise.
func (f *file) WriteAt(p []byte, off int64) (n int, err error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *file) write(p []byte, write func([]byte) (int, error)) (n int, err error) {
	d := f.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.crashed
	if v := d.next("write " + filepath.Base(f.Name())); v.Err != nil {
		if !before {
			n, _ = write(p[:len(p)/2])
		}
		return n, &fs.PathError{Op: "write", Path: f.Name(), Err: v.Err}
	}
	return write(p)
}

// Read implements [io.Reader].
func (f *file) Read(p []byte) (n int, err error) {
	if derr := f.disk.do("read", f.Name(), func() error { n, err = f.File.Read(p); return nil }, nil); derr != nil {
		return 0, derr
	}
	return n, err
}

// ReadAt implements [io.ReaderAt].
func (f *file) ReadAt(p []byte, off int64) (n int, err error) {
	if derr := f.disk.do("read", f.Name(), func() error { n, err = f.File.ReadAt(p, off); return nil }, nil); derr != nil {
		return 0, derr
	}
	return n, err
}

// Sync makes the content survive a power cut, or, of a folder, the names in it.
func (f *file) Sync() error {
	return f.disk.do("sync", f.Name(), f.File.Sync, func() {
		if f.node != nil {
			b, err := os.ReadFile(f.Name())
			if err == nil {
				f.node.synced = b
			}
			return
		}
		f.disk.keepNames(f.Name())
	})
}

// keepNames makes the names in a folder survive.
func (d *Disk) keepNames(dir string) {
	for name := range d.kept {
		if filepath.Dir(name) == dir {
			delete(d.kept, name)
		}
	}
	for name, n := range d.names {
		if filepath.Dir(name) == dir {
			d.kept[name] = n
		}
	}
}

// Loss is what is lost of the files.
type Loss int

const (
	// Nothing is lost: the process was killed.
	Nothing Loss = iota
	// Unsynced content and names are lost: the power was cut.
	Unsynced
	// UnsyncedContent is lost, and all names are kept: the power was cut, and
	// the file system writes names first.
	UnsyncedContent
)

// String names what has happened.
func (l Loss) String() string {
	return [...]string{"killed", "power cut", "power cut, names kept"}[l]
}

// Leave copies a folder and those in it to another place, as a crash leaves them.
// Files that were not opened through the disk are left out.
func (d *Disk) Leave(from, to string, loss Loss) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.names
	if loss == Unsynced {
		names = d.kept
	}
	if err := os.MkdirAll(filepath.Join(to, "spool"), 0o700); err != nil {
		return err
	}
	for name, n := range names {
		rest, ok := strings.CutPrefix(name, from+string(filepath.Separator))
		if !ok || n == nil {
			continue
		}
		content := n.synced
		if loss == Nothing {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			content = b
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, rest)), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, rest), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
