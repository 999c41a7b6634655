package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

const maxBackoff = 5 * time.Second

// retryPolicy says how often and after which pauses a request is repeated. It
// knows nothing of earlier requests: how to sit out a long outage is decided by
// the caller, so the SDK's quota of retries is off.
type retryPolicy struct {
	attempts int
	pause    time.Duration
}

// delay returns the pause after the attempt-th failure, counted from 1.
func (p retryPolicy) delay(attempt int) time.Duration {
	d := maxBackoff
	if shift := attempt - 1; shift < 16 {
		d = min(d, p.pause<<shift)
	}
	return d - time.Duration(rand.Int64N(int64(d)/2+1)) //nolint:gosec // Jitter, no secret.
}

// sleep waits for the pause after the attempt-th failure, or for ctx.
func (p retryPolicy) sleep(ctx context.Context, attempt int) error {
	timer := time.NewTimer(p.delay(attempt))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retryer is the policy as the SDK wants it.
func (p retryPolicy) retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = p.attempts
		o.RateLimiter = ratelimit.None
		o.Backoff = retry.BackoffDelayerFunc(func(attempt int, _ error) (time.Duration, error) {
			// The SDK counts from 0 or 1 by a setting of the environment.
			return p.delay(max(attempt, 1)), nil
		})
		o.Retryables = append([]retry.IsErrorRetryable{retry.IsErrorRetryableFunc(retryable)}, o.Retryables...)
	})
}

// retryable decides about the errors that the SDK's own rules get wrong here,
// and leaves the others to them.
func retryable(err error) aws.Ternary {
	var certificate *tls.CertificateVerificationError
	var hostname x509.HostnameError
	switch {
	case errors.As(err, &certificate), errors.As(err, &hostname):
		return aws.FalseTernary // It will not be another one next time.
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return aws.UnknownTernary
	case errors.Is(err, io.ErrUnexpectedEOF):
		return aws.TrueTernary // A reply, such as a page of a listing, that was cut short.
	case isCode(err, codeConflict), statusOf(err) == statusTooMany:
		return aws.TrueTernary
	default:
		return aws.UnknownTernary
	}
}
