package location

import "path/filepath"

// FolderOf gives a file location's folder, with slashes.
func FolderOf(l Location) string { return filepath.ToSlash(l.folder) }

// Credentials is credentials.
func Credentials(getenv func(string) string) (id, secret string, err error) {
	return credentials(getenv)
}
