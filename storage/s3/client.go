package s3

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

// newClient builds the SDK's client and returns the HTTP client below it.
func newClient(ctx context.Context, c Config, retry retryPolicy) (*awss3.Client, *http.Client, error) {
	// The SDK adds AWS_CA_BUNDLE's certificates only to a client that it can
	// rebuild, and fails with any other.
	loaders := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithReadTimeout(0)),
		awsconfig.WithRegion(c.Region),
		awsconfig.WithLogger(logging.Nop{}),
	}
	if c.AccessKeyID != "" {
		static := credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, "")
		loaders = append(loaders, awsconfig.WithCredentialsProvider(static))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, loaders...)
	if err != nil {
		if bundle := os.Getenv(bundleVariable); bundle != "" && !usable(bundle) {
			return nil, nil, fmt.Errorf("s3: %w: %w", ErrCABundle, err)
		}
		return nil, nil, fmt.Errorf("s3: read the AWS configuration of the environment: %w", err)
	}
	buildable, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return nil, nil, fmt.Errorf("s3: the SDK's HTTP client is a %T", cfg.HTTPClient)
	}
	httpClient := newHTTPClient(buildable.GetTransport(), c.Timeout)
	cfg.HTTPClient = httpClient
	cfg.Credentials = explained(cfg.Credentials)
	cfg.Retryer = retry.retryer

	client := awss3.NewFromConfig(cfg, func(o *awss3.Options) {
		if c.Endpoint != "" {
			o.BaseEndpoint = &c.Endpoint
		}
		o.UsePathStyle = c.PathStyle
		o.DisableLogOutputChecksumValidationSkipped = true
		adapt(o)
	})
	if client.Options().Region == "" {
		return nil, nil, fmt.Errorf("s3: %w", ErrNoRegion)
	}
	return client, httpClient, nil
}

// bundleVariable names a file of certificates to trust.
const bundleVariable = "AWS_CA_BUNDLE"

// usable reports whether a file holds certificates.
func usable(bundle string) bool {
	pem, err := os.ReadFile(bundle)
	return err == nil && x509.NewCertPool().AppendCertsFromPEM(pem)
}

// adapt fits the options to whose endpoint it is. Amazon's takes all that the
// SDK does by default. Others know neither regions nor, often, the SDK's
// checksums, which are sent in an encoding of their own.
func adapt(o *awss3.Options) {
	amazon, plain := true, false
	if o.BaseEndpoint != nil {
		amazon = isAmazon(*o.BaseEndpoint)
		plain = strings.HasPrefix(*o.BaseEndpoint, "http:")
	}
	if !amazon {
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.Region = orDefault(o.Region, defaultRegion)
	}
	if !amazon || !plain {
		o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
	}
}

// isAmazon reports whether an endpoint is one of Amazon's own.
func isAmazon(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := u.Hostname()
	return strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn")
}

// place is how people are told where the bucket is.
func place(o awss3.Options) string {
	if o.BaseEndpoint != nil {
		return *o.BaseEndpoint
	}
	return "Amazon S3, " + o.Region
}

// errCredentials marks errors of the credentials' provider.
var errCredentials = errors.New("no usable credentials")

// explained returns a provider whose errors are known as such.
func explained(p aws.CredentialsProvider) aws.CredentialsProvider {
	if p == nil {
		return nil
	}
	return aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		c, err := p.Retrieve(ctx)
		if err != nil {
			return c, fmt.Errorf("%w: %w", errCredentials, err)
		}
		return c, nil
	}))
}
