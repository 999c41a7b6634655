package s3

import (
	"errors"
	"fmt"
	"io"

	"tidemark/storage"
)

// errGaveUp ends the attempts to continue a body.
var errGaveUp = errors.New("gave up")

// reader reads the body of a Get. It is at one of three states: piece.body is
// open; or it is nil after a failure and the next Read opens the rest; or err
// is set for good.
type reader struct {
	piece piece
	// done is how much was read, of piece.length.
	done int64
	// failures counts those since the last byte came.
	failures int
	// last is what came with the last bytes, err what Read returns for good.
	last, err error

	// open opens the rest after done bytes of the object with an etag.
	open func(done int64, etag *string) (piece, error)
	// pause waits before the next attempt or fails if there shall be none.
	pause func(failures int) error
	// fail makes an error of the Get.
	fail func(error) error
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for r.err == nil {
		if r.done == r.piece.length {
			r.err = r.finish()
			break
		}
		if len(p) == 0 {
			return 0, nil
		}
		if r.piece.body == nil {
			r.err = r.reopen()
			continue
		}
		n, err := r.piece.body.Read(p[:min(int64(len(p)), r.piece.length-r.done)])
		if n > 0 {
			r.done += int64(n)
			r.failures, r.last = 0, err
			return n, nil
		}
		if err != nil {
			r.err = r.broken(err)
		}
	}
	return 0, r.err
}

// finish reads the end of the body, where the SDK compares checksums if the
// service sent any. It returns io.EOF if all is well.
func (r *reader) finish() error {
	if !r.piece.whole || r.piece.body == nil {
		return io.EOF
	}
	err := r.last
	for err == nil {
		var extra [1]byte
		var n int
		if n, err = r.piece.body.Read(extra[:]); n > 0 {
			return r.fail(&localError{text: "the reply is longer than it says"})
		}
	}
	if errors.Is(err, io.EOF) {
		return io.EOF
	}
	return r.fail(&localError{text: "the reply is damaged", cause: err})
}

// broken takes note of a body that broke off, and waits.
func (r *reader) broken(err error) error {
	_ = r.piece.body.Close() // It failed already.
	r.piece.body = nil
	r.failures++
	if perr := r.pause(r.failures); perr != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return r.fail(&localError{kind: storage.ErrUnreachable, text: fmt.Sprintf("the reply broke off after %d of %d bytes", r.done, r.piece.length), cause: err})
	}
	return nil
}

// reopen opens the rest.
func (r *reader) reopen() error {
	rest, err := r.open(r.done, r.piece.etag)
	if statusOf(err) == statusPrecondition {
		return r.fail(&localError{text: "the object was replaced while it was read"})
	}
	if err != nil {
		return r.fail(err)
	}
	if rest.length != r.piece.length-r.done {
		_ = rest.body.Close()
		return r.fail(&localError{text: "the object changed its length while it was read"})
	}
	r.piece.body, r.piece.whole = rest.body, rest.whole
	return nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.err == nil {
		r.err = r.fail(&localError{text: "read after Close"})
	}
	if r.piece.body == nil {
		return nil
	}
	err := r.piece.body.Close()
	r.piece.body = nil
	return err
}
