package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"tidemark/storage"
)

// Get implements [storage.Bucket]. A body that breaks off is continued by
// another request for the rest, as often as the configuration lets a request
// be sent without a byte of progress, and only if the object is still the same
// one.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := b.get(ctx, key, off, n)
	if err != nil {
		return nil, b.fail(ctx, "get", key, err)
	}
	return r, nil
}

func (b *Bucket) get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, &localError{kind: storage.ErrRange, text: fmt.Sprintf("offset %d", off)}
	}
	p, err := b.open(ctx, key, off, n, nil)
	if statusOf(err) == statusRange {
		return b.pastEnd(ctx, key, off)
	}
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return io.NopCloser(strings.NewReader("")), p.body.Close()
	}
	return &reader{
		piece: p,
		open: func(done int64, etag *string) (piece, error) {
			return b.open(ctx, key, off+done, p.length-done, etag)
		},
		pause: func(failures int) error {
			if failures >= b.retry.attempts {
				return errGaveUp
			}
			return b.retry.sleep(ctx, failures)
		},
		fail: func(err error) error { return b.fail(ctx, "get", key, noEnd(err)) },
	}, nil
}

// noEnd hides from errors.Is that a connection has ended, which is not what
// io.EOF and io.ErrUnexpectedEOF mean to the reader of an object.
func noEnd(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	detail, kind := explain(err)
	return &localError{kind: kind, text: detail}
}

// pastEnd answers a range that the service refuses because it begins at or
// after the object's end. Which of the two it is, the size tells.
func (b *Bucket) pastEnd(ctx context.Context, key string, off int64) (io.ReadCloser, error) {
	out, err := b.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &b.name, Key: b.path(key)}, b.perCall...)
	if err != nil {
		return nil, err
	}
	if size := aws.ToInt64(out.ContentLength); off > size {
		return nil, &localError{kind: storage.ErrRange, text: fmt.Sprintf("offset %d of %d bytes", off, size)}
	}
	return io.NopCloser(strings.NewReader("")), nil
}

// piece is one reply: the bytes of an object from somewhere on.
type piece struct {
	body io.ReadCloser
	// length is how many bytes body promises.
	length int64
	// whole is set if body holds nothing more.
	whole bool
	etag  *string
}

// open asks for the bytes [off, off+n) of an object, to its end if n < 0, and
// at least one byte, for there are no empty ranges. With an etag the object
// must still be that one.
func (b *Bucket) open(ctx context.Context, key string, off, n int64, etag *string) (piece, error) {
	rng := b.formatRange(off, n)
	out, err := b.client.GetObject(ctx, &awss3.GetObjectInput{
		Bucket:  &b.name,
		Key:     b.path(key),
		Range:   rng,
		IfMatch: etag,
	}, b.perCall...)
	if err != nil {
		return piece{}, err
	}
	p := piece{body: out.Body, length: aws.ToInt64(out.ContentLength), etag: out.ETag}
	if err := checkRange(out, rng, off, n); err != nil {
		_ = p.body.Close()
		return piece{}, err
	}
	if n >= 0 {
		p.length = min(p.length, n)
	}
	p.whole = p.length == aws.ToInt64(out.ContentLength)
	return p, nil
}

// maxObject is longer than any object. A range as long as that runs to the
// object's end, which spares services sums that overflow.
const maxObject = 1 << 50

// formatRange returns the value of a Range header, or nil for the whole of an
// object whose checksum the SDK compares. Without a checksum the whole is asked
// for as a range too, since the reply to one names the object's size: that shows
// if something on the way has cut the object short and made the length fit.
func (b *Bucket) formatRange(off, n int64) *string {
	toEnd := n < 0 || n >= maxObject
	switch {
	case toEnd && off == 0 && b.client.Options().ResponseChecksumValidation == aws.ResponseChecksumValidationWhenSupported:
		return nil
	case toEnd:
		return aws.String(fmt.Sprintf("bytes=%d-", off))
	default:
		return aws.String(fmt.Sprintf("bytes=%d-%d", off, off+max(n, 1)-1))
	}
}

// checkRange checks that the reply holds what was asked for: the bytes from
// off on, up to the range's or the object's end.
func checkRange(out *awss3.GetObjectOutput, rng *string, off, n int64) error {
	if out.ContentLength == nil {
		return &localError{text: "the service does not say how long its reply is"}
	}
	if out.ContentRange == nil {
		switch {
		case aws.ToString(out.ETag) == "":
			return &localError{text: "the reply is not an object"} // but an error, or a portal's page
		case rng != nil && off > 0:
			return &localError{text: "the service does not know ranges"}
		}
		return nil
	}
	first, last, size, ok := parseContentRange(*out.ContentRange)
	want := size - off
	if n >= 0 {
		want = min(want, max(n, 1))
	}
	if length := *out.ContentLength; !ok || first != off || last-first+1 != length || length != want {
		return &localError{text: fmt.Sprintf("the service answers the range %s with %s, %d bytes", aws.ToString(rng), *out.ContentRange, length)}
	}
	return nil
}

// parseContentRange parses "bytes first-last/size" of RFC 9110, 14.4.
func parseContentRange(s string) (first, last, size int64, ok bool) {
	s, isBytes := strings.CutPrefix(s, "bytes ")
	span, total, hasTotal := strings.Cut(s, "/")
	from, to, hasSpan := strings.Cut(span, "-")
	if !isBytes || !hasTotal || !hasSpan {
		return 0, 0, 0, false
	}
	var errs [3]error
	first, errs[0] = strconv.ParseInt(from, 10, 64)
	last, errs[1] = strconv.ParseInt(to, 10, 64)
	size, errs[2] = strconv.ParseInt(total, 10, 64)
	return first, last, size, errors.Join(errs[:]...) == nil
}
