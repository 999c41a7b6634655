package s3

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"tidemark/storage"
)

// List implements [storage.Bucket] by ListObjectsV2, a page at a time. Objects
// whose keys are not valid are somebody else's and are passed over. A service
// that does not list in key order, as S3's directory buckets do not, fails:
// the order is what the archive's plan rests on.
func (b *Bucket) List(ctx context.Context, prefix, after string, fn func(storage.Info) error) error {
	if !storage.ValidPrefix(prefix) {
		return b.checkContext(ctx, prefix) // Some services refuse to list such.
	}
	in := &awss3.ListObjectsV2Input{Bucket: &b.name, Prefix: b.path(prefix)}
	if after != "" {
		in.StartAfter = b.path(after)
	}
	last := after
	pages := awss3.NewListObjectsV2Paginator(b.client, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx, b.perCall...)
		if err != nil {
			return b.fail(ctx, "list", prefix, err)
		}
		if page.IsTruncated == nil {
			// Each page says whether it is the last. The SDK takes any other
			// document, or none at all, for a page without objects.
			return b.fail(ctx, "list", prefix, &localError{text: "the reply is not a listing"})
		}
		for _, object := range page.Contents {
			key, ours := strings.CutPrefix(aws.ToString(object.Key), b.prefix)
			if !ours || !storage.ValidKey(key) {
				continue
			}
			if key <= last {
				return b.fail(ctx, "list", prefix, &localError{text: fmt.Sprintf("the service lists %s after %s: not in key order", key, last)})
			}
			last = key
			if err := b.checkContext(ctx, prefix); err != nil {
				return err
			}
			if err := fn(storage.Info{Key: key, Size: aws.ToInt64(object.Size), Modified: aws.ToTime(object.LastModified)}); err != nil {
				return err
			}
		}
	}
	return b.checkContext(ctx, prefix)
}

func (b *Bucket) checkContext(ctx context.Context, prefix string) error {
	if err := ctx.Err(); err != nil {
		return b.fail(ctx, "list", prefix, err)
	}
	return nil
}
