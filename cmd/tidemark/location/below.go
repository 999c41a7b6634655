package location

import (
	"net/url"
	"path/filepath"
	"strings"
)

// Below gives the place at a relative path, with slashes, below a location. Two
// paths give two places.
func (l Location) Below(rel string) (Location, error) {
	base, query, asked := strings.Cut(l.text, "?")
	scheme, rest, _ := strings.Cut(base, "://")
	names := strings.Split(rel, "/")
	for i, name := range names {
		// An @ would be taken for the end of credentials.
		names[i] = strings.ReplaceAll(url.PathEscape(name), "@", "%40")
	}
	text := scheme + "://" + strings.TrimRight(rest, "/") + "/" + strings.Join(names, "/")
	if asked {
		text += "?" + query
	}
	return Parse(text)
}

// Within tells whether a location is another, or lies below it.
func (l Location) Within(other Location) bool {
	if l.folder == "" || other.folder == "" {
		below := l.s3
		if !strings.HasPrefix(below.prefix+"/", strings.TrimPrefix(other.s3.prefix+"/", "/")) {
			return false
		}
		below.prefix = other.s3.prefix
		return l.folder == other.folder && below == other.s3
	}
	a, errA := filepath.Abs(l.folder)
	b, errB := filepath.Abs(other.folder)
	if errA != nil || errB != nil {
		return false
	}
	rel, err := filepath.Rel(b, a)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
