package s3

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"tidemark/storage"
)

// abortTimeout bounds the clearing up after a failed upload, which goes on
// when the Put's own context has ended.
const abortTimeout = 15 * time.Second

// abortPatience bounds it once the Put is told to stop: who stops does not want
// to wait for a service that may not answer.
const abortPatience = time.Second

// upload is one multipart upload.
type upload struct {
	bucket *Bucket
	key    string
	id     *string
	plan   partPlan
	// sent[i] is what completes part i+1. Each is filled by the goroutine that
	// sends the part, and read when all of them have ended.
	sent []*types.CompletedPart
}

// putParts stores an object in parts. first is the first one, from source.
func (b *Bucket) putParts(ctx context.Context, key string, first []byte, source *source, plan partPlan, opts storage.PutOptions) error {
	out, err := b.client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{
		Bucket: &b.name,
		Key:    b.path(key),
	}, b.perCall...)
	if err != nil {
		return err
	}
	if aws.ToString(out.UploadId) == "" {
		return &localError{text: "the reply is not that of a service that has begun an upload"}
	}
	u := &upload{bucket: b, key: key, id: out.UploadId, plan: plan}
	err = u.send(ctx, first, source)
	if err == nil {
		err = u.complete(ctx, opts)
	}
	if err != nil {
		u.abort(ctx)
	}
	return err
}

// send reads and sends all parts. Buffers go round: there are as many as parts
// are sent at a time, and one that is being filled.
func (u *upload) send(ctx context.Context, part []byte, source *source) error {
	sending, cancel := context.WithCancel(ctx)
	defer cancel()
	group, sending := errgroup.WithContext(sending)
	group.SetLimit(u.plan.concurrency)
	free := make(chan []byte, u.plan.concurrency+1)
	for range u.plan.concurrency {
		free <- nil // Made when it is first needed.
	}
	for {
		u.start(sending, group, part, free)
		if source.ended() {
			return group.Wait()
		}
		buf := <-free
		if sending.Err() != nil {
			return cmp.Or(group.Wait(), ctx.Err())
		}
		var err error
		if part, err = u.read(source, buf); err != nil {
			cancel()
			_ = group.Wait() // It was cancelled; err is why.
			return err
		}
	}
}

// read returns the next part of a body.
func (u *upload) read(source *source, buf []byte) ([]byte, error) {
	if len(u.sent) == u.plan.limit {
		return nil, &localError{text: fmt.Sprintf("the body does not fit into %d parts of %d bytes: set a larger part size", u.plan.limit, u.plan.size)}
	}
	if buf == nil {
		buf = make([]byte, 0, u.plan.size+1)
	}
	return source.next(buf, u.plan.size)
}

// start sends the next part in the background and frees its buffer then. The
// SDK takes a body from the transport before a call returns, so nobody reads
// the buffer when it is filled again.
func (u *upload) start(ctx context.Context, group *errgroup.Group, part []byte, free chan<- []byte) {
	done := &types.CompletedPart{PartNumber: aws.Int32(int32(len(u.sent) + 1))} //nolint:gosec // At most maxParts.
	u.sent = append(u.sent, done)
	group.Go(func() error {
		defer func() { free <- part }()
		return u.sendPart(ctx, part, done)
	})
}

func (u *upload) sendPart(ctx context.Context, part []byte, done *types.CompletedPart) error {
	out, err := u.bucket.client.UploadPart(ctx, &awss3.UploadPartInput{
		Bucket:        &u.bucket.name,
		Key:           u.bucket.path(u.key),
		UploadId:      u.id,
		PartNumber:    done.PartNumber,
		Body:          bytes.NewReader(part),
		ContentLength: aws.Int64(int64(len(part))),
	}, u.bucket.perCall...)
	if err != nil {
		return err
	}
	if err := confirmed(out.ETag); err != nil {
		return err
	}
	done.ETag = out.ETag
	// Where checksums are in use, completing must repeat them.
	done.ChecksumCRC32, done.ChecksumCRC32C, done.ChecksumCRC64NVME = out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME
	done.ChecksumSHA1, done.ChecksumSHA256 = out.ChecksumSHA1, out.ChecksumSHA256
	return nil
}

// complete makes the object of the parts.
func (u *upload) complete(ctx context.Context, opts storage.PutOptions) error {
	parts := make([]types.CompletedPart, len(u.sent))
	for i, part := range u.sent {
		parts[i] = *part
	}
	out, err := u.bucket.client.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
		Bucket:          &u.bucket.name,
		Key:             u.bucket.path(u.key),
		UploadId:        u.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		IfNoneMatch:     ifNoneMatch(opts),
	}, u.bucket.perCall...)
	switch {
	case err == nil:
		return confirmed(out.ETag)
	case isCode(err, codeNoSuchUpload) && opts.IfAbsent:
		return u.completedBefore(ctx, err)
	default:
		return unconditional(err, opts)
	}
}

// completedBefore explains why there is no such upload when it is completed:
// a completion before it has succeeded, and its reply was lost. Then the object
// exists, which is what the caller of a conditional Put is told.
func (u *upload) completedBefore(ctx context.Context, gone error) error {
	_, err := u.bucket.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &u.bucket.name, Key: u.bucket.path(u.key)}, u.bucket.perCall...)
	if err != nil {
		return gone // Somebody has aborted it, or else the next attempt will tell.
	}
	return &localError{kind: storage.ErrExists, text: "the upload was completed before", hidden: gone}
}

// abort removes the parts that were sent. That the upload failed is what the
// caller is told; parts that cannot be removed either are seen by nobody and
// left to the bucket's lifecycle rule.
func (u *upload) abort(ctx context.Context) {
	aborting, cancel := context.WithTimeout(context.WithoutCancel(ctx), abortTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(abortPatience, cancel) })()
	_, _ = u.bucket.client.AbortMultipartUpload(aborting, &awss3.AbortMultipartUploadInput{
		Bucket:   &u.bucket.name,
		Key:      u.bucket.path(u.key),
		UploadId: u.id,
	}, u.bucket.perCall...)
}
