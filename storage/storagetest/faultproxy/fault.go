package faultproxy

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"tidemark/storage/storagetest/s3fake"
)

// Fault is one way to fail.
type Fault struct {
	name  string
	serve func(*exchange)
}

// String is the fault's name, fit for a test.
func (f Fault) String() string { return f.name }

// Status answers with an HTTP status and an error code of S3 in place of the
// service, which does not see the request. An empty code sends no document.
func Status(status int, code string) Fault {
	return Fault{fmt.Sprintf("%d %s", status, code), func(x *exchange) {
		x.drain()
		if code == "" {
			x.w.WriteHeader(status)
			return
		}
		s3fake.WriteError(x.w, status, code)
	}}
}

// Reply answers 200 with a document in place of the service, as a portal does
// that wants a login, or S3 itself if the document is an error: it begins the
// reply to CompleteMultipartUpload and CopyObject before it knows how they end.
func Reply(name, contentType, document string) Fault {
	return Fault{name, func(x *exchange) {
		x.drain()
		x.w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(x.w, document) // the client may be gone
	}}
}

// ErrorIn200 is a Reply with an error of S3.
func ErrorIn200(code string) Fault {
	return Reply("200 with the error "+code, "application/xml", s3fake.ErrorBody(code))
}

// Hang takes the request and never sends a byte.
func Hang() Fault { return Fault{"hang", (*exchange).silence} }

// HangBody lets the service perform the request and sends the header of its
// reply, but nothing of the body.
func HangBody() Fault {
	return Fault{"hang after the header", func(x *exchange) {
		rep, ok := x.forward()
		if !ok {
			return
		}
		if len(rep.body) == 0 {
			rep.header.Del("Content-Length") // The client waits for the end of an empty body too.
		}
		x.send(rep, 0)
		x.silence()
	}}
}

// ResetRequest resets the connection when the service has got half of the
// request's body.
func ResetRequest() Fault {
	return Fault{"reset in the request", func(x *exchange) {
		_, _ = io.CopyN(io.Discard, x.r.Body, x.r.ContentLength/2) // It is reset however that ends.
		x.reset()
	}}
}

// ResetReply lets the service perform the request and resets the connection
// after half of the reply's body.
func ResetReply() Fault {
	return Fault{"reset in the reply", func(x *exchange) {
		if rep, ok := x.forward(); ok {
			x.send(rep, len(rep.body)/2)
			x.reset()
		}
	}}
}

// Truncate lets the service perform the request and ends the connection
// properly after half of the reply's body, which is less than the header says.
func Truncate() Fault {
	return Fault{"truncated body", func(x *exchange) {
		if rep, ok := x.forward(); ok {
			x.send(rep, len(rep.body)/2)
			panic(http.ErrAbortHandler) // as if the process had died
		}
	}}
}

// Shorten sends half of the reply's body, and a header that says so.
func Shorten() Fault {
	return Fault{"shortened body", func(x *exchange) {
		if rep, ok := x.forward(); ok {
			rep.body = rep.body[:len(rep.body)/2]
			rep.header.Set("Content-Length", strconv.Itoa(len(rep.body)))
			x.send(rep, len(rep.body))
		}
	}}
}

// LoseReply lets the service perform the request and resets the connection in
// place of a reply.
func LoseReply() Fault {
	return Fault{"lost reply", func(x *exchange) {
		if _, ok := x.forward(); ok {
			x.reset()
		}
	}}
}

// LoseSuccess is LoseReply if the service has done what it was asked for; a
// refusal comes through. So a client that tries once more is told that the object
// of its conditional Put exists.
func LoseSuccess() Fault {
	return Fault{"lost success", func(x *exchange) {
		rep, ok := x.forward()
		switch {
		case !ok:
		case rep.status < http.StatusBadRequest:
			x.reset()
		default:
			x.send(rep, len(rep.body))
		}
	}}
}

// Delay waits before it passes a request on.
func Delay(d time.Duration) Fault {
	return Fault{"delay of " + d.String(), func(x *exchange) {
		if !x.wait(d) {
			x.reset()
			return
		}
		x.pass()
	}}
}

// Limit passes bodies in both directions at no more than so many bytes a
// second.
func Limit(bytesPerSecond int64) Fault {
	return Fault{fmt.Sprintf("%d bytes a second", bytesPerSecond), func(x *exchange) {
		x.bandwidth = bytesPerSecond
		x.pass()
	}}
}
