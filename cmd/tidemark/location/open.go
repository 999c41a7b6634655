package location

import (
	"context"
	"errors"
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
	// Clients are shared with other locations; nil: this one has a client of its own.
	Clients *Clients
}

// Open gives the storage at the location. It sends no request to a service,
// so a missing bucket or wrong credentials show at the first use.
//
// Errors are an [*Error] where the environment's credentials are incomplete, the
// region is not known or AWS_CA_BUNDLE can't be used,
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
	b, err := opts.Clients.bucket(ctx, s3.Config{
		Bucket: l.s3.bucket, Prefix: l.s3.prefix,
		Endpoint: l.s3.endpoint, Region: l.s3.region, PathStyle: l.s3.pathStyle,
		AccessKeyID: id, SecretAccessKey: secret,
	})
	if errors.Is(err, s3.ErrNoRegion) {
		return nil, &Error{
			Msg:    l.String() + ": the region is not known",
			Advice: "add ?region=eu-central-1 to the URL, or set AWS_REGION; for a server other than AWS add ?endpoint=http://host:port",
		}
	}
	if errors.Is(err, s3.ErrCABundle) {
		return nil, &Error{Msg: "open " + l.String() + ": " + err.Error(), Advice: "AWS_CA_BUNDLE must name a PEM file, or be unset"}
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", l, err)
	}
	return b, nil
}

// The variables of tidemark's own keys.
const (
	VarAccessKeyID     = "TIDEMARK_S3_ACCESS_KEY_ID"
	VarSecretAccessKey = "TIDEMARK_S3_SECRET_ACCESS_KEY"
)

// CredentialAdvice says what to do where a service refused the environment's
// credentials: it begins with the variables that were used.
func CredentialAdvice(getenv func(string) string) string {
	const may = ": the keys must be valid here and allowed to list, read, write and delete in the bucket"
	switch {
	case getenv(VarAccessKeyID) != "":
		return "check " + VarAccessKeyID + " and " + VarSecretAccessKey + ", which go before the AWS settings" + may
	case getenv("AWS_ACCESS_KEY_ID") != "":
		return "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or set " + VarAccessKeyID + " and " + VarSecretAccessKey + " instead" + may
	default:
		return "set " + VarAccessKeyID + " and " + VarSecretAccessKey + ", or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" + may
	}
}

// credentials reads tidemark's own variables; both empty means the AWS chain.
func credentials(getenv func(string) string) (id, secret string, err error) {
	id, secret = getenv(VarAccessKeyID), getenv(VarSecretAccessKey)
	var missing string
	switch {
	case id != "" && secret == "":
		missing = VarSecretAccessKey
	case id == "" && secret != "":
		missing = VarAccessKeyID
	default:
		return id, secret, nil
	}
	return "", "", &Error{Msg: missing + " is not set, but its other half is", Advice: "set both, or neither for the AWS chain"}
}
