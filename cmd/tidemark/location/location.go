// Package location reads the URLs that say where a replica lives and opens the
// storage behind them:
//
//	file:///abs/path          a folder, by its absolute path
//	file:///C:/folder         the same on Windows
//	file://relative/path      a folder, from the current one
//	s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&path-style=true
//
// All parts of an s3 query are optional. Without an endpoint the bucket is on
// AWS. Path-style addressing is the default where an endpoint is given, since
// most S3-compatible servers need it, and can be set to false.
//
// A URL never holds credentials: it ends up in logs, process lists and shell
// histories. They come from TIDEMARK_S3_ACCESS_KEY_ID and
// TIDEMARK_S3_SECRET_ACCESS_KEY, or from the AWS chain (AWS_… variables, the
// shared files, an instance's role).
//
// This is the only place that knows the kinds of storage there are.
package location

import (
	"net/url"
	"path/filepath"
	"runtime"
	"strings"

	"tidemark/cmd/tidemark/suggest"
)

// Location is a replica's place, parsed and checked; nothing has been opened.
// It is an immutable value.
type Location struct {
	text   string
	folder string // of file://
	s3     s3Place
}

// String gives the URL as it was written. It can be logged: a URL that held
// credentials did not parse.
func (l Location) String() string { return l.text }

// IsFolder tells whether the location is a folder.
func (l Location) IsFolder() bool { return l.folder != "" }

// Path is the path of a folder, or "" for any other place.
func (l Location) Path() string { return l.folder }

// Same tells whether two locations are one place, however they are written.
func (l Location) Same(other Location) bool {
	if l.folder == "" || other.folder == "" {
		return l.folder == other.folder && l.s3 == other.s3
	}
	a, errA := filepath.Abs(l.folder)
	b, errB := filepath.Abs(other.folder)
	return errA == nil && errB == nil && a == b
}

// Folder gives the location of a folder by its path.
func Folder(path string) (Location, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Location{}, &Error{Msg: "find the folder " + quoteWord(path) + ": " + err.Error()}
	}
	return Location{text: fileURL(abs), folder: abs}, nil
}

// Error says why a URL was refused. Neither part ever repeats credentials.
type Error struct {
	// Msg names the URL, as far as it may be repeated, and what is wrong.
	Msg string
	// Advice is what to write instead, or "".
	Advice string
}

// Error gives the message without the advice.
func (e *Error) Error() string { return e.Msg }

// Hint gives the advice.
func (e *Error) Hint() string { return e.Advice }

// Parse reads a URL for the operating system that runs. Errors are [*Error]s.
func Parse(text string) (Location, error) { return ParseFor(text, runtime.GOOS) }

// ParseFor is [Parse] for the operating system goos, a value of
// [runtime.GOOS]; only a Windows path's drive letter depends on it.
func ParseFor(text, goos string) (Location, error) {
	scheme, rest, found := strings.Cut(text, "://")
	if !found {
		return Location{}, notURL(text)
	}
	switch strings.ToLower(scheme) {
	case "file":
		return parseFile(text, rest, goos)
	case "s3":
		return parseS3(text)
	default:
		return Location{}, &Error{
			Msg:    "unknown scheme in " + quote(text) + suggest.DidYouMean(scheme, "", []string{"file", "s3"}),
			Advice: "a replica's URL is file:///folder or s3://bucket/prefix",
		}
	}
}

func notURL(text string) error {
	if text == "" {
		return &Error{Msg: "the replica's URL is empty", Advice: "write file:///folder or s3://bucket/prefix"}
	}
	e := &Error{Msg: quote(text) + " is not a URL", Advice: "write file:///folder or s3://bucket/prefix"}
	rest, isFile := strings.CutPrefix(text, "file:")
	_, isS3 := strings.CutPrefix(text, "s3:")
	switch {
	case isS3:
		e.Advice = "write s3://bucket/prefix, with two slashes"
	case isFile:
		e.Advice = "write " + fileURL(rest)
	default:
		e.Advice = "for a folder write " + fileURL(text)
	}
	return e
}

// fileURL gives the URL that stands for the folder path; an absolute path
// begins with a slash or a drive letter.
func fileURL(path string) string {
	path = strings.ReplaceAll(path, `\`, "/")
	if hasDrive(path) {
		path = "/" + path
	}
	path = strings.ReplaceAll(path, "%", "%25")
	return "file://" + strings.ReplaceAll(strings.ReplaceAll(path, "?", "%3F"), "#", "%23")
}

func hasDrive(path string) bool {
	if len(path) < 2 || path[1] != ':' {
		return false
	}
	letter := path[0] | 0x20
	return letter >= 'a' && letter <= 'z' && (len(path) == 2 || path[2] == '/' || path[2] == '\\')
}

// parseFile reads what follows file://. A standard URL parser would take the
// first folder of a relative path for a host.
func parseFile(text, rest, goos string) (Location, error) {
	path, query, _ := strings.Cut(rest, "?")
	if query != "" {
		key, _, _ := strings.Cut(query, "=")
		return Location{}, &Error{
			Msg:    "unknown key " + quoteWord(key) + " in " + quote(text),
			Advice: "a file URL has no query; write a question mark in a folder's name as %3F",
		}
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return Location{}, &Error{
			Msg:    quote(text) + ": a percent sign that is not followed by two hex digits",
			Advice: "write a percent sign in a folder's name as %25",
		}
	}
	switch {
	case path == "":
		return Location{}, &Error{Msg: quote(text) + " names no folder", Advice: "write file:///folder"}
	case strings.HasPrefix(path, "~"):
		return Location{}, &Error{
			Msg:    quote(text) + ": ~ is not expanded in a URL",
			Advice: `write the folder in full, or "file://$HOME/…" for the shell to expand`,
		}
	case goos == "windows" && strings.HasPrefix(path, "/") && hasDrive(path[1:]):
		path = path[1:]
	}
	return Location{text: text, folder: filepath.Clean(path)}, nil
}

// quote gives a URL for a message, without what could be credentials.
func quote(text string) string {
	if scheme, rest, ok := strings.Cut(text, "://"); ok {
		text = scheme + "://" + redactUser(rest)
	}
	if before, _, ok := strings.Cut(text, "?"); ok && mentionsSecret(text) {
		text = before + "?…"
	}
	return quoteWord(text)
}

// redactUser hides what stands before the last @ of a URL's authority. A
// password may itself hold a slash or a question mark that should have been
// escaped, so the whole rest is searched.
func redactUser(rest string) string {
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		return "…" + rest[i:]
	}
	return rest
}

func quoteWord(s string) string { return `"` + s + `"` }
