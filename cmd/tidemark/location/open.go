package location

import (
	"context"
	"fmt"
	"os"

	"tidemark/storage"
	"tidemark/storage/s3"
)

// Options are the choices of [Location.Open].
type Options struct {
	// Create makes a missing folder when the first object is put. A missing
	// s3 bucket is never made.
	Create bool
}

// Open gives the storage at the location. It sends no request to a service,
// so a missing bucket or wrong credentials show at the first use.
//
// Errors are an [*Error] where the environment's credentials are incomplete,
// [storage.ErrNoBucket] for a missing folder, and else the backend's.
func (l Location) Open(ctx context.Context, opts Options) (storage.Bucket, error) {
	if l.folder != "" {
		b, err := openFolder(l.folder, opts)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", l, err)
		}
		return b, nil
	}
	id, secret, err := credentials(os.Getenv)
	if err != nil {
		return nil, err
	}
	b, err := s3.Open(ctx, s3.Config{
		Bucket: l.s3.bucket, Prefix: l.s3.prefix,
		Endpoint: l.s3.endpoint, Region: l.s3.region, PathStyle: l.s3.pathStyle,
		AccessKeyID: id, SecretAccessKey: secret,
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", l, err)
	}
	return b, nil
}

// credentials reads tidemark's own variables; both empty means the AWS chain.
func credentials(getenv func(string) string) (id, secret string, err error) {
	const idName, secretName = "TIDEMARK_S3_ACCESS_KEY_ID", "TIDEMARK_S3_SECRET_ACCESS_KEY"
	id, secret = getenv(idName), getenv(secretName)
	var missing string
	switch {
	case id != "" && secret == "":
		missing = secretName
	case id == "" && secret != "":
		missing = idName
	default:
		return id, secret, nil
	}
	return "", "", &Error{Msg: missing + " is not set, but its other half is", Advice: "set both, or neither for the AWS chain"}
}
