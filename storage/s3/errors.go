package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"tidemark/storage"
)

// Errors of [Open] that callers branch on.
var (
	// ErrNoRegion says that neither the configuration nor the environment names
	// the bucket's region.
	ErrNoRegion = errors.New("no region: name the bucket's region, or set AWS_REGION")
	// ErrCABundle says that AWS_CA_BUNDLE is set to a file without certificates.
	ErrCABundle = errors.New("the certificates of AWS_CA_BUNDLE can't be read")
)

// Error codes of the protocol that this package acts on.
// See https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
const (
	codeNoSuchKey    = "NoSuchKey"
	codeNotFound     = "NotFound" // The SDK's word for a 404 without a body.
	codeNoSuchBucket = "NoSuchBucket"
	codePrecondition = "PreconditionFailed"
	codeConflict     = "ConditionalRequestConflict"
	codeRange        = "InvalidRange"
	codeNoSuchUpload = "NoSuchUpload"
	codeUnknown      = "NotImplemented" // Of a header that asks for too much.
	codeArgument     = "InvalidArgument"

	statusTooMany      = http.StatusTooManyRequests
	statusRange        = http.StatusRequestedRangeNotSatisfiable
	statusPrecondition = http.StatusPreconditionFailed
)

// Error is a failed operation on one object or listing. Its text is short and
// meant for people; it never holds credentials.
type Error struct {
	// Op is what was tried: "put", "get", "list" or "delete".
	Op string
	// Key is the object's key, or the prefix of a listing.
	Key string
	// Bucket is the bucket with its prefix as a URL, Endpoint where it is.
	Bucket, Endpoint string
	// Kind is the error of package storage that callers branch on, or nil.
	Kind error
	// Detail says more than Kind, in the service's or the system's words.
	Detail string

	cause error
}

// Error implements error.
func (e *Error) Error() string {
	s := e.Op + " " + e.Key
	if e.Key == "" {
		s = e.Op
	}
	s += fmt.Sprintf(" (%s at %s): ", e.Bucket, e.Endpoint)
	switch {
	case e.Detail == noCredentials:
		return s + e.Detail // nobody has denied anything yet
	case e.Kind != nil && e.Detail != "":
		return s + e.Kind.Error() + ": " + e.Detail
	case e.Kind != nil:
		return s + e.Kind.Error()
	default:
		return s + e.Detail
	}
}

// Unwrap returns the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Kind == nil {
		return []error{e.cause}
	}
	return []error{e.Kind, e.cause}
}

// fail makes an Error of what went wrong in one of the bucket's methods.
func (b *Bucket) fail(ctx context.Context, op, key string, err error) error {
	e := &Error{Op: op, Key: key, Bucket: b.String(), Endpoint: b.place, cause: err}
	if cerr := ctx.Err(); cerr != nil {
		// Whatever else it looks like, it failed because it was told to stop.
		e.Detail, e.cause = cerr.Error(), errors.Join(cerr, err)
		return e
	}
	e.Detail, e.Kind = explain(err)
	return e
}

// noCredentials is the detail where no source holds credentials.
const noCredentials = "no S3 credentials found"

// explain puts an error into few words and sorts it.
func explain(err error) (detail string, kind error) {
	var local *localError
	if errors.As(err, &local) {
		return local.Error(), local.kind
	}
	if errors.Is(err, errCredentials) {
		if askedMachine(err) {
			return noCredentials, storage.ErrDenied
		}
		return "no usable credentials: " + root(err).Error(), storage.ErrDenied
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		kind = kindOf(api.ErrorCode(), statusOf(err))
		return describe(api, statusOf(err), kind), kind
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		return sendDetail(send), storage.ErrUnreachable
	}
	if cause := brokeOff(err); cause != nil {
		return "the reply broke off: " + cause.Error(), storage.ErrUnreachable
	}
	var garbled *smithy.DeserializationError
	if errors.As(err, &garbled) {
		return "the reply is damaged: " + root(err).Error(), nil
	}
	return err.Error(), nil
}

// brokeOff returns how a connection failed while a reply was read, or nil if it
// did not.
func brokeOff(err error) error {
	var network net.Error
	if errors.As(err, &network) {
		return network
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// unconditional marks the error of a conditional request if it says that the
// service knows no conditions: 501, or a 400 that complains of the header.
func unconditional(err error, opts storage.PutOptions) error {
	var api smithy.APIError
	if !opts.IfAbsent || !errors.As(err, &api) {
		return err
	}
	// There is one code for all arguments; only the message says which.
	argument := api.ErrorCode() == codeArgument && strings.Contains(strings.ToLower(api.ErrorMessage()), "if-none-match")
	if argument || api.ErrorCode() == codeUnknown || statusOf(err) == http.StatusNotImplemented {
		return &localError{kind: storage.ErrUnconditional, text: describe(api, statusOf(err), nil), hidden: err}
	}
	return err
}

// askedMachine reports whether the credentials' provider ended at the service
// of the machine's role, which it asks last, when nothing else is set.
func askedMachine(err error) bool {
	var op *smithy.OperationError
	for errors.As(err, &op) {
		if op.Service() == "ec2imds" {
			return true
		}
		err = op.Err
	}
	return false
}

// kindOf sorts a reply of the service.
func kindOf(code string, status int) error {
	switch code {
	case codeNoSuchKey, codeNotFound:
		return storage.ErrNotExist
	case codeNoSuchBucket:
		return storage.ErrNoBucket
	case codePrecondition, codeConflict:
		return storage.ErrExists
	case codeRange:
		return storage.ErrRange
	case "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken":
		return storage.ErrDenied
	}
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return storage.ErrDenied
	case http.StatusPreconditionFailed:
		return storage.ErrExists
	case http.StatusRequestedRangeNotSatisfiable:
		return storage.ErrRange
	}
	return nil
}

// describe gives the service's own words, or none where the kind says it all.
func describe(api smithy.APIError, status int, kind error) string {
	if kind != nil && !errors.Is(kind, storage.ErrDenied) {
		return ""
	}
	s := api.ErrorCode()
	if status != 0 && kind == nil {
		s = fmt.Sprintf("%d %s", status, s)
	}
	if m := api.ErrorMessage(); m != "" && m != api.ErrorCode() {
		s += ": " + m
	}
	return s
}

// sendDetail is why a request could not be sent or its reply not be read.
// *url.Error repeats the URL, which the Error names already.
func sendDetail(err *smithyhttp.RequestSendError) string {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return err.Err.Error()
}

// root returns the innermost error of a chain, or of its last branch: the
// SDK's layers each say the same in other words.
func root(err error) error {
	var many interface{ Unwrap() []error }
	if errors.As(err, &many) {
		list := many.Unwrap()
		return root(list[len(list)-1])
	}
	for next := err; next != nil; next = errors.Unwrap(next) {
		err = next
	}
	return err
}

// localError is a failure that no request reported.
type localError struct {
	// kind is an error of package storage or nil.
	kind error
	text string
	// cause is what text is about, or nil; hidden is a cause that text tells
	// already.
	cause, hidden error
}

// Error implements error.
func (e *localError) Error() string {
	if e.cause == nil {
		return e.text
	}
	return e.text + ": " + e.cause.Error()
}

// Unwrap returns the cause.
func (e *localError) Unwrap() error { return cmp.Or(e.cause, e.hidden) }

// isCode reports whether the service replied with an error code.
func isCode(err error, code string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == code
}

// statusOf returns the HTTP status of an error reply, or 0.
func statusOf(err error) int {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil {
		return re.HTTPStatusCode()
	}
	return 0
}
