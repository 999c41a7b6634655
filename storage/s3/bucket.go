// Package s3 keeps objects in Amazon S3 or any service that speaks its
// protocol: MinIO, Cloudflare R2, Ceph, Backblaze B2 and others. The service
// must honour If-None-Match on PutObject and on CompleteMultipartUpload, for
// that is what [storage.PutOptions].IfAbsent is made of.
//
// A body of unknown or large size is a multipart upload, sent while it is
// read, in memory for Concurrency+1 parts; one that turns out to be small is a
// single PutObject. Whatever fails, and also a context that ends, aborts the
// upload, so there is never half an object. A process that is killed leaves
// the parts it had sent, unseen but paid for: give the bucket a lifecycle rule
// that aborts incomplete multipart uploads after a day.
//
// Payloads are not part of the request's signature (UNSIGNED-PAYLOAD). Signing
// them means to hash each byte once more with SHA-256 on both sides, which
// costs more than all else that tidemark does to a byte. TLS protects them on
// their way as well, tidemark's objects carry checksums that each reader
// checks, and to Amazon's own endpoints the SDK adds a CRC that the service
// checks. Only towards Amazon over plain http, where it is not allowed, are
// payloads signed.
package s3

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"tidemark/storage"
)

// Bucket is a [storage.Bucket] in S3. Create one with [Open].
type Bucket struct {
	name string
	// prefix is "" or ends with a slash.
	prefix string
	// place is how errors call the service: its endpoint or region.
	place string
	parts partPlan
	retry retryPolicy

	client *awss3.Client
	http   *http.Client
	// perCall is added to each request of the client, which is shared.
	perCall []func(*awss3.Options)
	count   *counter
}

var _ storage.Bucket = (*Bucket)(nil)

// Open returns the bucket that config names. It reads the configuration of the
// environment (AWS_* variables, the files of ~/.aws, AWS_CA_BUNDLE) but makes
// no request to the bucket: whether it exists and lets us in is told by the
// first use.
func Open(ctx context.Context, config Config) (*Bucket, error) {
	config, err := config.normal()
	if err != nil {
		return nil, err
	}
	retry := retryPolicy{attempts: config.Attempts, pause: config.Backoff}
	client, httpClient, err := newClient(ctx, config, retry)
	if err != nil {
		return nil, err
	}
	b := &Bucket{
		name:   config.Bucket,
		prefix: config.Prefix,
		place:  place(client.Options()),
		parts:  partPlan{size: config.PartSize, concurrency: config.Concurrency, limit: maxParts},
		retry:  retry,
		client: client,
		http:   httpClient,
	}
	b.counted()
	return b, nil
}

// Sub returns the part of the bucket below a prefix, which is relative to this
// one's. It shares this one's connections, so that hundreds of replicas in one
// bucket need no more of them than one, but counts its own requests.
func (b *Bucket) Sub(prefix string) *Bucket {
	sub := *b
	sub.prefix = b.prefix + folder(prefix)
	sub.counted()
	return &sub
}

// counted gives the bucket a request counter of its own.
func (b *Bucket) counted() {
	b.count = &counter{}
	b.perCall = []func(*awss3.Options){b.count.observe}
}

// Requests returns the requests that were sent since [Open] or [Bucket.Sub],
// each page of a listing, each part of an upload and each retry by itself.
func (b *Bucket) Requests() storage.Requests { return b.count.requests() }

// CloseIdle closes the connections that no request uses, also those of buckets
// that share them. The bucket stays usable.
func (b *Bucket) CloseIdle() { b.http.CloseIdleConnections() }

// String returns the bucket and prefix as a URL: "s3://bucket/prefix".
func (b *Bucket) String() string {
	return strings.TrimSuffix("s3://"+b.name+"/"+b.prefix, "/")
}

func (b *Bucket) path(key string) *string { return aws.String(b.prefix + key) }

// Delete implements [storage.Bucket].
func (b *Bucket) Delete(ctx context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return b.fail(ctx, "delete", key, err)
	}
	in := &awss3.DeleteObjectInput{Bucket: &b.name, Key: b.path(key)}
	if _, err := b.client.DeleteObject(ctx, in, b.perCall...); err != nil && !isCode(err, codeNoSuchKey) {
		return b.fail(ctx, "delete", key, err)
	}
	return nil
}

// Put implements [storage.Bucket]. An upload that is retried after its reply
// was lost may find its own object and then fails with [storage.ErrExists].
func (b *Bucket) Put(ctx context.Context, key string, body io.Reader, opts storage.PutOptions) error {
	err := storage.CheckKey(key)
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = b.put(ctx, key, body, opts)
	}
	if err != nil {
		return b.fail(ctx, "put", key, err)
	}
	return nil
}
