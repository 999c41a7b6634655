package location_test

import (
	"errors"
	"strings"
	"testing"

	"tidemark/cmd/tidemark/location"
)

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"file:///var/backups/app",
		"file://backups/app",
		"file://./backups",
		"file:///with%20space/100%25",
		"FILE:///upper",
		"s3://bucket",
		"s3://bucket/",
		"s3://bucket/some/prefix",
		"s3://bucket/prefix?region=eu-central-1",
		"s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&path-style=true",
		"s3://bucket/prefix?endpoint=https%3A%2F%2Fminio.example&path-style=false",
	} {
		l, err := location.Parse(url)
		if err != nil {
			t.Errorf("Parse(%q): %v", url, err)
			continue
		}
		if l.String() != url {
			t.Errorf("String() = %q, want %q", l, url)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ url, msg, hint string }{
		{"", "URL is empty", "file:///folder"},
		{"/var/backups", "is not a URL", "file:///var/backups"},
		{"backups/app", "is not a URL", "file://backups/app"},
		{`C:\backups`, "is not a URL", "file:///C:/backups"},
		{"file:/var/backups", "is not a URL", "write file:///var/backups"},
		{"s3:bucket", "is not a URL", "two slashes"},
		{"gs://bucket", "unknown scheme", "s3://bucket/prefix"},
		{"fil:///x", `did you mean "file"`, ""},
		{"s3s://x", `did you mean "s3"`, ""},
		{"file://", "names no folder", ""},
		{"file:///x?create=1", `unknown key "create"`, "no query"},
		{"file:///100%", "percent sign", "%25"},
		{"file://~/backups", "not expanded", "$HOME"},
		{"s3://", "names no bucket", ""},
		{"s3:///prefix", "names no bucket", ""},
		{"s3://localhost:9000/bucket", "no port", "endpoint=http://localhost:9000"},
		{"s3://bucket/a#b", "would be lost", "%23"},
		{"s3://bucket?endpont=http://x", `did you mean "endpoint"`, "region"},
		{"s3://bucket?colour=red", `unknown key "colour"`, "endpoint, region and path-style"},
		{"s3://bucket?region=", "needs one value", ""},
		{"s3://bucket?region=a&region=b", "needs one value", ""},
		{"s3://bucket?endpoint=127.0.0.1:9000", "not an http or https URL", "http://127.0.0.1:9000"},
		{"s3://bucket?endpoint=ftp://x", "not an http or https URL", ""},
		{"s3://bucket?endpoint=http://x%3Fa=b", "more than", ""},
		{"s3://bucket?path-style=maybe", "true or false", ""},
		{"s3://bucket/%zz", "not a valid URL", ""},
		{"s3://bucket?region=%zz", "can't be read", ""},
	} {
		_, err := location.Parse(tc.url)
		var refused *location.Error
		if !errors.As(err, &refused) {
			t.Errorf("Parse(%q) = %v, want a *location.Error", tc.url, err)
			continue
		}
		if !strings.Contains(refused.Error(), tc.msg) || !strings.Contains(refused.Hint(), tc.hint) {
			t.Errorf("Parse(%q): %q, hint %q; want %q and %q", tc.url, refused, refused.Hint(), tc.msg, tc.hint)
		}
	}
}

// A URL with credentials is refused, and no message repeats them.
func TestParseNeverRepeatsCredentials(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"s3://AKIDSESAME:SESAME@bucket/prefix",
		"s3://AKID:SES/AME@bucket/prefix",
		"s3://AKID:%zzSESAME@bucket",
		"s3://bucket?secret=SESAME",
		"s3://bucket?access-key-id=SESAME&region=x",
		"s3://bucket?Secret_Access_Key=SESAME",
		"s3://bucket?secret%2Dkey=SESAME",
		"s3://bucket?endpoint=http://AKID:SESAME@host:9000",
		"gs://AKID:SESAME@bucket",
		"gs://bucket?token=SESAME",
	} {
		_, err := location.Parse(url)
		var refused *location.Error
		if !errors.As(err, &refused) {
			t.Errorf("Parse(%q) = %v, want a *location.Error", url, err)
			continue
		}
		if said := refused.Error() + refused.Hint(); strings.Contains(said, "SESAME") || strings.Contains(said, "SES/AME") {
			t.Errorf("Parse(%q) repeats the credentials: %s", url, said)
		}
	}
}

func TestParseWindowsDrive(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ url, goos, folder string }{
		{"file:///C:/data/app", "windows", "C:/data/app"},
		{"file:///C:/data/app", "linux", "/C:/data/app"},
		{"file:///data/app", "windows", "/data/app"},
		{"file://data/../app", "linux", "app"},
	} {
		l, err := location.ParseFor(tc.url, tc.goos)
		if err != nil {
			t.Fatal(err)
		}
		if got := location.FolderOf(l); got != tc.folder {
			t.Errorf("%s on %s is the folder %q, want %q", tc.url, tc.goos, got, tc.folder)
		}
	}
}

func TestCredentialsNeedBothHalves(t *testing.T) {
	t.Parallel()
	env := map[string]string{"TIDEMARK_S3_ACCESS_KEY_ID": "AKID"}
	_, _, err := location.Credentials(func(k string) string { return env[k] })
	if err == nil || !strings.Contains(err.Error(), "TIDEMARK_S3_SECRET_ACCESS_KEY is not set") {
		t.Errorf("got %v", err)
	}
	env["TIDEMARK_S3_SECRET_ACCESS_KEY"] = "SESAME"
	id, secret, err := location.Credentials(func(k string) string { return env[k] })
	if id != "AKID" || secret != "SESAME" || err != nil {
		t.Errorf("got %q %q %v", id, secret, err)
	}
}
