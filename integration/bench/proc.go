package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tidemark/integration/child"
)

// proc is a child process, and what it costs. It ends with this process.
type proc struct {
	name string
	cmd  *exec.Cmd
	*child.Process
	stdout bytes.Buffer // complete when it has ended
	log    string       // the file of its standard error

	// own is the greatest size of this process up to the child's start, which the system
	// counts as the child's, too.
	own int64
	mu  sync.Mutex
	// peak is the greatest size that was seen.
	peak int64
	// watched is closed when nobody looks at its size any more.
	watched chan struct{}
}

// sizeInterval is how often a child's size is read. The system keeps the greatest one
// itself, so only what is allocated in a child's last moment can be missed.
const sizeInterval = 50 * time.Millisecond

// start starts a program, name being its path. If ctx ends, so does the program, in
// no order.
func (b *bench) start(ctx context.Context, name string, args ...string) (*proc, error) {
	log, err := os.CreateTemp(b.dir, filepath.Base(name)+"-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has one of its own
	p := &proc{name: filepath.Base(name), log: log.Name(), watched: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, name, args...)
	p.cmd.Env = append(os.Environ(), b.env()...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, log
	if p.Process, err = child.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.own = residentPeak(os.Getpid())
	go p.watch()
	return p, nil
}

// watch reads its size while it runs.
func (p *proc) watch() {
	defer close(p.watched)
	tick := time.NewTicker(sizeInterval)
	defer tick.Stop()
	for {
		p.see()
		select {
		case <-p.Exited():
			return
		case <-tick.C:
		}
	}
}

func (p *proc) see() {
	size := residentPeak(p.cmd.Process.Pid)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.peak = max(p.peak, size)
}

// stop tells it to end, by SIGINT, and waits for that. It is an error if it does not
// end well.
func (p *proc) stop() error {
	p.see()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = p.cmd.Process.Kill() // Windows can't interrupt it
	}
	return p.wait()
}

// wait waits until it has ended, and removes its log if it ended well.
func (p *proc) wait() error {
	<-p.Exited()
	<-p.watched
	if err := p.Err(); err != nil {
		return fmt.Errorf("%s: %w: %s", p.name, err, p.said())
	}
	return os.Remove(p.log)
}

// kill ends it, in no order, if it has not ended. It is for a defer.
func (p *proc) kill() {
	_ = p.cmd.Process.Kill()
	<-p.Exited()
	<-p.watched
}

// said is the end of its standard error.
func (p *proc) said() string {
	f, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close() //nolint:errcheck // only read
	const most = 2000
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	return strings.TrimSpace(string(text))
}

// cpu is the user's and the system's time that it has spent. While it runs, only Linux
// tells; ok is false where nobody does.
func (p *proc) cpu() (spent time.Duration, ok bool) {
	select {
	case <-p.Exited():
		if s := p.cmd.ProcessState; s != nil {
			return s.UserTime() + s.SystemTime(), true
		}
		return 0, false
	default:
		return processorTime(p.cmd.Process.Pid)
	}
}

// memory is the greatest resident size that it has had, in bytes, once it has ended;
// ok is false where the system does not tell.
func (p *proc) memory() (size int64, ok bool) {
	<-p.Exited()
	<-p.watched
	if whole := largest(p.cmd.ProcessState); whole > p.own {
		return whole, true // else it is, in part, the size of this process
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peak, p.peak > 0
}
