package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"tidemark/integration/minio"
	"tidemark/storage"
)

// What the plain sides do: they move the bytes and nothing else. No format, no
// checksum, no compression, no proof.

const (
	// plainPart is one request of a plain transfer, plainParallel how many are under
	// way at a time.
	plainPart     = 8 << 20
	plainParallel = 8
	// plainBuffer is the size of a connection's buffers, so that a part is not
	// thousands of system calls.
	plainBuffer = 256 << 10
)

// plainClient is a client of MinIO that hashes no payloads.
func plainClient(m *minio.Server) (client *awss3.Client, done func()) {
	transport := &http.Transport{
		MaxIdleConnsPerHost: 2 * plainParallel, DisableCompression: true,
		ReadBufferSize: plainBuffer, WriteBufferSize: plainBuffer,
	}
	client = awss3.New(awss3.Options{
		BaseEndpoint: &m.Endpoint, Region: "us-east-1", UsePathStyle: true,
		Credentials:                credentials.NewStaticCredentialsProvider(m.AccessKey, m.SecretKey, ""),
		HTTPClient:                 &http.Client{Transport: transport},
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}, awss3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
	return client, transport.CloseIdleConnections
}

// span is a part of an object.
type span struct {
	key     string
	off, to int64
}

// spans cuts objects into parts of a size at most, in their order. Empty objects have
// none.
func spans(objects []storage.Info, size int64) (all []span) {
	for _, o := range objects {
		for off := int64(0); off < o.Size; off += size {
			all = append(all, span{o.Key, off, min(off+size, o.Size)})
		}
	}
	return all
}

// listed gives the objects of a place and the sum of their sizes.
func listed(ctx context.Context, at place) (objects []storage.Info, size int64, err error) {
	err = at.store.List(ctx, "", "", func(o storage.Info) error {
		objects = append(objects, o)
		size += o.Size
		return nil
	})
	return objects, size, err
}

// plainDownload downloads all objects of a bucket, several parts at a time, and throws
// the bytes away.
func plainDownload(ctx context.Context, m *minio.Server, at place) (time.Duration, error) {
	objects, size, err := listed(ctx, at)
	if err != nil {
		return 0, err
	}
	client, done := plainClient(m)
	defer done()
	var buffers sync.Pool
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(plainParallel)
	for _, s := range spans(objects, plainPart) {
		g.Go(func() error {
			buf, ok := buffers.Get().(*[plainBuffer]byte)
			if !ok {
				buf = new([plainBuffer]byte)
			}
			defer buffers.Put(buf)
			return downloadSpan(ctx, client, at.bucket, s, buf[:])
		})
	}
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("download %d bytes: %w", size, err)
	}
	return time.Since(began), nil
}

func downloadSpan(ctx context.Context, client *awss3.Client, bucket string, s span, buf []byte) error {
	out, err := client.GetObject(ctx, &awss3.GetObjectInput{
		Bucket: &bucket, Key: aws.String(bucketPrefix + "/" + s.key),
		Range: aws.String(fmt.Sprintf("bytes=%d-%d", s.off, s.to-1)),
	})
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, out.Body, buf)
	if err = errors.Join(err, out.Body.Close()); err == nil && n != s.to-s.off {
		err = fmt.Errorf("%s: %d bytes of %d", s.key, n, s.to-s.off)
	}
	return err
}

// plainUpload uploads a file as one object, several parts at a time.
func plainUpload(ctx context.Context, m *minio.Server, path string, at place) (spent time.Duration, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	client, done := plainClient(m)
	defer done()
	key := aws.String(bucketPrefix + "/plain")
	parts := spans([]storage.Info{{Key: *key, Size: info.Size()}}, plainPart)
	began := time.Now()
	upload, err := client.CreateMultipartUpload(ctx, &awss3.CreateMultipartUploadInput{Bucket: &at.bucket, Key: key})
	if err != nil {
		return 0, err
	}
	sent := make([]types.CompletedPart, len(parts))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(plainParallel)
	for i, s := range parts {
		g.Go(func() error {
			number := aws.Int32(int32(i + 1))
			out, err := client.UploadPart(gctx, &awss3.UploadPartInput{
				Bucket: &at.bucket, Key: key, UploadId: upload.UploadId, PartNumber: number,
				Body: io.NewSectionReader(f, s.off, s.to-s.off), ContentLength: aws.Int64(s.to - s.off),
			})
			if err == nil {
				sent[i] = types.CompletedPart{ETag: out.ETag, PartNumber: number}
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return 0, fmt.Errorf("upload %s: %w", path, err)
	}
	_, err = client.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
		Bucket: &at.bucket, Key: key, UploadId: upload.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: sent},
	})
	return time.Since(began), err
}

// plainCopy copies a file and syncs the copy, as cp and sync would.
func plainCopy(from, to string) (spent time.Duration, err error) {
	began := time.Now()
	src, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer src.Close() //nolint:errcheck // only read
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(dst, src) // the system's own copy, where it has one
	if err == nil {
		err = dst.Sync()
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return 0, fmt.Errorf("copy %s: %w", from, err)
	}
	return time.Since(began), nil
}
