package s3

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Config says where a bucket is and how to talk to it.
type Config struct {
	// Bucket is the bucket's name.
	Bucket string
	// Prefix is the folder in the bucket below which all keys live. Slashes
	// at its ends do not count.
	Prefix string
	// Endpoint is the service's URL, "https://minio.example:9000"; empty for
	// Amazon's, or what AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL say.
	Endpoint string
	// Region is the bucket's region; empty for what the environment says or,
	// with an endpoint, for us-east-1.
	Region string
	// PathStyle puts the bucket's name into the path of URLs instead of the
	// host name, as MinIO and most services of one's own need it.
	PathStyle bool
	// AccessKeyID and SecretAccessKey are the credentials. If both are empty
	// the environment's are used: AWS_* variables, ~/.aws, or the role of the
	// container or machine.
	AccessKeyID, SecretAccessKey string
	// PartSize is the size of a part in bytes, and that of the largest body
	// sent in one request; 0 means 8 MiB. Services ask for 5 MiB or more. An
	// upload has at most 10,000 parts: 80 GiB if the size is not known, and
	// larger parts if it is.
	PartSize int64
	// Concurrency is how many parts of one upload are sent at a time; 0 means 3.
	Concurrency int
	// Attempts is how often a request is sent until it succeeds; 0 means 6.
	Attempts int
	// Backoff is the pause before the second attempt. It doubles with each
	// further one, up to 5 s, and is shortened at random by up to half, 0
	// means 200 ms.
	Backoff time.Duration
	// Timeout is for how long a connection may stay without a byte in either
	// direction during a request; 0 means 30 s.
	Timeout time.Duration
}

const (
	defaultPartSize    = 8 << 20
	defaultConcurrency = 3
	defaultAttempts    = 6
	defaultBackoff     = 200 * time.Millisecond
	defaultTimeout     = 30 * time.Second
	defaultRegion      = "us-east-1"

	// maxPartSize keeps a part in memory, also of a 32-bit process.
	maxPartSize = 1 << 30
	// maxPrefixLen leaves room for a key of [storage.MaxKeyLen] within S3's
	// 1,024 bytes.
	maxPrefixLen = 512
)

// normal checks the configuration and fills in what is left out.
func (c Config) normal() (Config, error) {
	if c.Bucket == "" || strings.ContainsAny(c.Bucket, "/?# \t\r\n") {
		return c, fmt.Errorf("s3: %q is no bucket name", c.Bucket)
	}
	c.Prefix = folder(c.Prefix)
	if len(c.Prefix) > maxPrefixLen {
		return c, fmt.Errorf("s3: the prefix is longer than %d bytes", maxPrefixLen)
	}
	if (c.AccessKeyID == "") != (c.SecretAccessKey == "") {
		return c, errors.New("s3: the access key and the secret key belong together, and one is missing")
	}
	if err := checkEndpoint(c.Endpoint); err != nil {
		return c, err
	}
	if c.PartSize < 0 || c.Concurrency < 0 || c.Attempts < 0 || c.Backoff < 0 || c.Timeout < 0 {
		return c, errors.New("s3: sizes, counts and times must not be negative")
	}
	if c.PartSize > maxPartSize {
		return c, fmt.Errorf("s3: the part size is larger than %d bytes", maxPartSize)
	}
	c.PartSize = orDefault(c.PartSize, defaultPartSize)
	c.Concurrency = orDefault(c.Concurrency, defaultConcurrency)
	c.Attempts = orDefault(c.Attempts, defaultAttempts)
	c.Backoff = orDefault(c.Backoff, defaultBackoff)
	c.Timeout = orDefault(c.Timeout, defaultTimeout)
	return c, nil
}

// Check reports what [Open] would say of the configuration itself.
func (c Config) Check() error {
	_, err := c.normal()
	return err
}

func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		// url.Parse's error is left out: it repeats what may hold a password.
		return errors.New("s3: the endpoint must begin with http:// or https:// and name a host")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("s3: the endpoint %s must be a scheme, a host, a port and a path, nothing else", u.Redacted())
	}
	return nil
}

// folder returns prefix with one slash at its end and none at its beginning,
// or "" for the root.
func folder(prefix string) string {
	prefix = strings.Trim(prefix, "/")
	if prefix != "" {
		prefix += "/"
	}
	return prefix
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
