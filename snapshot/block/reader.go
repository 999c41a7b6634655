package block

import (
	"fmt"
	"io"
)

// Reader reads consecutive blocks. It is not safe for concurrent use.
type Reader struct {
	src    io.Reader
	off    int64
	header [HeaderSize]byte
	stored []byte
	raw    []byte
}

// NewReader gives a Reader of the blocks in src, whose next byte is at offset
// of the object. The Reader never reads past the end of a block, so what
// follows the last one is the caller's to read from src; src should be
// buffered if blocks are small.
func NewReader(src io.Reader, offset int64) *Reader {
	return &Reader{src: src, off: offset}
}

// Offset is where the next block begins.
func (r *Reader) Offset() int64 { return r.off }

// Next reads the next block. The raw bytes are valid until the following call.
//
// Errors are an *[Error] with the offset of the block: ErrCorrupt if it is
// damaged, ErrCorrupt and io.ErrUnexpectedEOF if the source ends before or
// within it, and the source's own error, which is no corruption, if that
// fails. A source must therefore not report its failures as a bare io.EOF or
// io.ErrUnexpectedEOF. After an error the Reader is of no more use.
func (r *Reader) Next() (Header, []byte, error) {
	n, err := io.ReadFull(r.src, r.header[:])
	return r.finish(n, err)
}

// NextOrEOF is like [Reader.Next] where the number of blocks is not known: it
// gives io.EOF, as it is, if the source ends where a block could begin.
func (r *Reader) NextOrEOF() (Header, []byte, error) {
	n, err := io.ReadFull(r.src, r.header[:])
	if n == 0 && err == io.EOF {
		return Header{}, nil, io.EOF
	}
	return r.finish(n, err)
}

// NextStored is like [Reader.Next] for who copies blocks: it checks the next block
// and gives its header's bytes and its payload as they are stored, not decoded.
// Both are valid until the following call.
func (r *Reader) NextStored() (h Header, header, stored []byte, err error) {
	n, err := io.ReadFull(r.src, r.header[:])
	if h, err = r.read(n, err); err != nil {
		return Header{}, nil, nil, err
	}
	if sum(r.header[:], r.stored) != h.Sum {
		return Header{}, nil, nil, r.fail(errSum())
	}
	r.off += h.Size()
	return h, r.header[:], r.stored, nil
}

// finish reads the rest of a block after n bytes of header and err.
func (r *Reader) finish(n int, err error) (Header, []byte, error) {
	h, err := r.read(n, err)
	if err != nil {
		return Header{}, nil, err
	}
	r.raw, err = Decode(r.raw, h, r.header[:], r.stored)
	if err != nil {
		return Header{}, nil, r.fail(err)
	}
	r.off += h.Size()
	return h, r.raw, nil
}

// read reads the payload after n bytes of header and err, and checks nothing of
// it.
func (r *Reader) read(n int, err error) (Header, error) {
	if n < HeaderSize {
		return Header{}, r.fail(truncated(err))
	}
	h, err := ParseHeader(r.header[:])
	if err != nil {
		return Header{}, r.fail(err)
	}
	r.stored = sized(r.stored, h.Stored)
	if _, err = io.ReadFull(r.src, r.stored); err != nil {
		return Header{}, r.fail(truncated(err))
	}
	return h, nil
}

func (r *Reader) fail(err error) error { return &Error{Offset: r.off, Err: err} }

// truncated makes the end of a source corruption and leaves other errors. It
// compares without unwrapping: an EOF that a source wrapped is its failure,
// not its end.
func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // see above
		return fmt.Errorf("%w: truncated: %w", ErrCorrupt, io.ErrUnexpectedEOF)
	}
	return err
}
