package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// sighting is where a file was found.
type sighting struct {
	folder *folder
	rel    string
}

// scan looks at everything.
func (f *fleet) scan(ctx context.Context) {
	f.look++
	for _, fo := range f.folders {
		f.visit(ctx, fo, ".")
	}
	f.rescan = time.Now().Add(f.opts.Rescan)
	if ctx.Err() != nil {
		return // what was not met may be there
	}
	for key, d := range f.dismissed {
		if d.look != f.look {
			delete(f.dismissed, key)
		}
	}
	for _, m := range f.members {
		if m.folder != nil && m.look != f.look && m.active == 0 && m.moved() {
			f.forget(ctx, m)
		}
	}
	f.lookAgain(ctx)
	f.scanned = true
}

// visit looks at a folder and what is below it, and begins to watch it.
func (f *fleet) visit(ctx context.Context, fo *folder, rel string) {
	fo.walk(ctx, rel, visitor{
		enter: func(rel string) {
			if f.watch == nil {
				return
			}
			if err := f.watch.Add(fo.key(rel)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				f.warn("watch", fo.key(rel), fo.path(rel), "the folder can't be watched: new databases in it are noticed late", err)
			}
		},
		left: func(rel string, err error) {
			if err == nil {
				delete(f.said, "read "+fo.key(rel))
			} else if rel == "." || !errors.Is(err, fs.ErrNotExist) {
				f.warn("read", fo.key(rel), fo.path(rel), "the folder can't be read: databases in it are not found", err)
			}
		},
		file: func(rel string, info fs.FileInfo) { f.meet(ctx, fo, rel, info) },
	})
}

// changed looks at what the system has told of.
func (f *fleet) changed(ctx context.Context, c changes) {
	if c.all {
		f.scan(ctx)
		return
	}
	for path := range c.paths {
		f.lookAt(ctx, path)
	}
}

// lookAt looks at an absolute path.
func (f *fleet) lookAt(ctx context.Context, key string) {
	info, err := os.Lstat(key)
	if m := f.members[key]; err != nil && m != nil && m.folder != nil && m.active == 0 && m.moved() {
		f.forget(ctx, m)
	}
	if err != nil {
		delete(f.dismissed, key)
		delete(f.fresh, key)
		return
	}
	for _, fo := range f.folders {
		rel, ok := fo.locate(key)
		switch {
		case !ok:
		case info.IsDir() && fo.enters(rel):
			f.visit(ctx, fo, rel)
		case info.Mode().IsRegular() && fo.takes(filepath.Base(rel)):
			f.meet(ctx, fo, rel, info)
		}
	}
}

// lookAgain looks at the files that were in use under another name.
func (f *fleet) lookAgain(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	for key, at := range f.waiting {
		info, err := os.Lstat(key)
		if err != nil || !info.Mode().IsRegular() {
			delete(f.waiting, key)
			continue
		}
		if f.user(identify(info)) == nil {
			delete(f.waiting, key)
			f.meet(ctx, at.folder, at.rel, info)
		}
	}
}

// meet looks at a file of a folder that may be a database.
func (f *fleet) meet(ctx context.Context, fo *folder, rel string, info fs.FileInfo) {
	key := fo.key(rel)
	if m := f.members[key]; m != nil {
		f.revisit(ctx, m, info)
		return
	}
	if d, known := f.dismissed[key]; known && d.facts == factsOf(info) {
		f.dismissed[key] = dismissal{d.facts, f.look}
		return
	}
	if other := f.user(identify(info)); other != nil {
		f.wait(fo, rel, other)
		return
	}
	f.examine(ctx, fo, rel)
}

// examine looks into a file that nobody in this process has open.
func (f *fleet) examine(ctx context.Context, fo *folder, rel string) {
	key := fo.key(rel)
	file, ok, length, err := sniff(key)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.warn("read", key, fo.path(rel), "the file can't be read: nobody knows whether it is a database", err)
		}
		return
	}
	info, err := file.Stat()
	if err == nil { // it may be another one by now
		if other := f.user(identify(info)); other != nil {
			other.held = append(other.held, file)
			f.wait(fo, rel, other)
			return
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return // a later look shows more
	}
	delete(f.said, "read "+key)
	now := factsOf(info)
	if ok && f.unfinished(key, now, length) {
		return
	}
	delete(f.fresh, key)
	switch {
	case ok:
		f.begin(ctx, fo, rel, now.file)
	case now.settled():
		f.dismissed[key] = dismissal{now, f.look}
	}
}

// unfinished tells whether somebody seems to be copying a database here, or creating
// it: to open one then could be in the way of the application. It is looked at again
// soon. In the end it is begun in any case, and what is wrong then is for the
// replication to tell.
func (f *fleet) unfinished(key string, now facts, length int64) bool {
	short := now.size < length
	if f.last || now.settled() || !short && !f.scanned {
		return false
	}
	was, known := f.fresh[key]
	if !known {
		was.first = time.Now()
	}
	if was.facts != now {
		was.facts, was.since = now, time.Now()
	}
	f.fresh[key] = was
	f.wake(time.Now().Add(quiet))
	if short {
		return time.Since(was.since) < coarse
	}
	return time.Since(was.since) < quiet && time.Since(was.first) < patience
}

// wait puts a file off that another member has open, under a name that it had, or
// still has.
func (f *fleet) wait(fo *folder, rel string, other *member) {
	key := fo.key(rel)
	f.waiting[key] = sighting{fo, rel}
	here, err := os.Stat(key)
	there, oerr := os.Stat(other.path)
	if err == nil && oerr == nil && os.SameFile(here, there) {
		f.warn("twice", key, fo.path(rel), "the file is left out", fmt.Errorf("%w, as %s: one of the two is a link", ErrTwice, other.path))
	}
}

// begin begins with a database that was found.
func (f *fleet) begin(ctx context.Context, fo *folder, rel string, file identity) {
	key := fo.key(rel)
	m := &member{path: fo.path(rel), key: key, folder: fo, rel: rel, file: file, look: f.look}
	runs, err := fo.Replications(m.path, filepath.ToSlash(rel))
	if err != nil {
		f.warn("begin", key, m.path, "the database is left out", err)
		return
	}
	delete(f.said, "begin "+key)
	f.members[key] = m
	for _, r := range runs {
		m.runs = append(m.runs, &attempts{Replication: r})
	}
	for _, r := range m.runs {
		f.start(ctx, m, r)
	}
}

// warn logs what is wrong with a path, once for each message in a row.
func (f *fleet) warn(about, key, path, msg string, err error) {
	about += " " + key
	if f.said[about] == err.Error() {
		return
	}
	f.said[about] = err.Error()
	f.log.Warn(msg, slog.String("path", path), slog.Any("err", err))
}
