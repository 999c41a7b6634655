package storage

import "fmt"

// MaxKeyLen is the length of the longest valid key in bytes. With a prefix of
// the same length it still fits the 1,024 bytes that S3 allows.
const MaxKeyLen = 512

// ValidKey reports whether key may name an object: 1 to [MaxKeyLen] bytes of
// A–Z, a–z, 0–9, '.', '_', '-' and '/', where no element between slashes is
// empty, "." or "..". Such a key needs no escaping in a URL, cannot leave the
// folder that holds it, and means the same on every backend.
//
// The caller sees to one rule more, because a file system cannot hold both: no
// key is another key followed by a slash and more.
func ValidKey(key string) bool {
	if key == "" || len(key) > MaxKeyLen {
		return false
	}
	start := 0
	for i := range len(key) {
		switch {
		case key[i] == '/':
			if !validElement(key[start:i]) {
				return false
			}
			start = i + 1
		case !validByte(key[i]):
			return false
		}
	}
	return validElement(key[start:])
}

// ValidPrefix reports whether a valid key can begin with prefix. A listing with
// any other prefix is empty.
func ValidPrefix(prefix string) bool {
	return prefix == "" || ValidKey(prefix) || ValidKey(prefix+"x")
}

// CheckKey returns nil for a valid key and an error that wraps [ErrInvalidKey]
// and names the key otherwise.
func CheckKey(key string) error {
	if ValidKey(key) {
		return nil
	}
	return fmt.Errorf("%w: %q", ErrInvalidKey, key)
}

func validElement(e string) bool {
	return e != "" && e != "." && e != ".."
}

func validByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	default:
		return c == '.' || c == '_' || c == '-'
	}
}
