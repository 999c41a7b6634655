package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"tidemark/storage"
)

// maxParts is how many parts S3 lets an upload have.
const maxParts = 10_000

// partPlan says how an upload is cut.
type partPlan struct {
	// size is the length of each part but the last, in bytes.
	size int64
	// concurrency is how many parts are sent at a time.
	concurrency int
	// limit is how many parts there may be.
	limit int
}

// forSize returns the plan for a body of size bytes, or -1: with larger parts
// if there were too many else.
func (p partPlan) forSize(size int64) partPlan {
	limit := int64(p.limit)
	p.size = max(p.size, (size+limit-1)/limit)
	return p
}

// put stores a body in one request or, if it is longer than a part, in many.
// Bodies are copied before they are sent, also those that can seek: the parts
// of a body are read once, by one goroutine, and a retry finds the very bytes
// that were sent before.
func (b *Bucket) put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	plan := b.parts.forSize(opts.Size)
	source := &source{body: body, want: opts.Size, alive: ctx.Err}
	first, err := source.next(firstBuffer(opts.Size, plan.size), plan.size)
	if err != nil {
		return err
	}
	if source.ended() {
		return b.putWhole(ctx, key, first, opts)
	}
	return b.putParts(ctx, key, first, source, plan, opts)
}

// putWhole stores an object in one request.
func (b *Bucket) putWhole(ctx context.Context, key string, data []byte, opts storage.PutOptions) error {
	out, err := b.client.PutObject(ctx, &awss3.PutObjectInput{
		Bucket:        &b.name,
		Key:           b.path(key),
		Body:          bytes.NewReader(data),
		ContentLength: aws.Int64(int64(len(data))),
		IfNoneMatch:   ifNoneMatch(opts),
	}, b.perCall...)
	if err != nil {
		return unconditional(err, opts)
	}
	return confirmed(out.ETag)
}

// confirmed returns an error if a reply lacks the ETag that every service gives
// to what it has stored: something else has answered, such as a portal that
// wants a login, and "200 OK" does not mean that the bytes are safe.
func confirmed(etag *string) error {
	if aws.ToString(etag) == "" {
		return &localError{text: "the reply is not that of a service that has stored something"}
	}
	return nil
}

func ifNoneMatch(opts storage.PutOptions) *string {
	if !opts.IfAbsent {
		return nil
	}
	return aws.String("*")
}

// minBuffer is the first buffer for a body of unknown length. It grows up to
// a part: most segments are small, and there may be hundreds at a time.
const minBuffer = 64 << 10

// firstBuffer returns a buffer for the first part. For a known size it has one
// byte to spare, in which a body that is too long shows.
func firstBuffer(size, partSize int64) []byte {
	if size < 0 {
		return make([]byte, 0, min(minBuffer, partSize+1))
	}
	return make([]byte, 0, min(size, partSize)+1)
}

// source cuts a body into parts. It is not safe for concurrent use.
type source struct {
	body io.Reader
	// want is the promised length or -1, got what was read.
	want, got int64
	// eof is set when body has been read to its end.
	eof bool
	// ahead is empty or the byte that was read to see whether more comes.
	ahead []byte
	// alive returns the error of the Put's context.
	alive func() error
}

// ended reports whether the last part has been taken.
func (s *source) ended() bool { return s.eof && len(s.ahead) == 0 }

// next returns the next size bytes, or what there is, in buf, or in a larger
// buffer if that is too small. It reads one byte further, to know whether a
// part is the last one.
func (s *source) next(buf []byte, size int64) ([]byte, error) {
	full := int(size) + 1
	buf = append(buf[:0], s.ahead...)
	s.ahead = nil
	for len(buf) < full && !s.eof {
		if err := s.alive(); err != nil {
			return nil, err
		}
		if len(buf) == cap(buf) {
			buf = grow(buf, full)
		}
		n, err := s.body.Read(buf[len(buf):min(cap(buf), full)])
		buf = buf[:len(buf)+n]
		s.got += int64(n)
		s.eof = errors.Is(err, io.EOF)
		if err != nil && !s.eof {
			return nil, &localError{text: "read the body", cause: err}
		}
		if s.want >= 0 && (s.got > s.want || s.eof && s.got < s.want) {
			return nil, &localError{text: fmt.Sprintf("the body does not have the %d bytes it should have, but %d", s.want, s.got)}
		}
	}
	if len(buf) == full {
		s.ahead = []byte{buf[full-1]}
		buf = buf[:full-1]
	}
	return buf, nil
}

// grow returns a copy of buf with twice the room, at most limit.
func grow(buf []byte, limit int) []byte {
	larger := make([]byte, len(buf), min(max(2*cap(buf), minBuffer), limit))
	copy(larger, buf)
	return larger
}
