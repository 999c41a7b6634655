package location

import (
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tidemark/cmd/tidemark/suggest"
)

// s3Place is what an s3 URL says; the zero value is no place.
type s3Place struct {
	bucket, prefix   string
	endpoint, region string
	pathStyle        bool
}

const credentialAdvice = "set TIDEMARK_S3_ACCESS_KEY_ID and TIDEMARK_S3_SECRET_ACCESS_KEY, or AWS_ACCESS_KEY_ID and " +
	"AWS_SECRET_ACCESS_KEY, in the environment: a URL ends up in logs and process lists (an @ in a prefix is written %40)"

func parseS3(text string) (Location, error) {
	u, err := url.Parse(text)
	if strings.Contains(text, "@") || mentionsSecret(text) {
		return Location{}, &Error{Msg: "credentials in the URL " + quote(text), Advice: credentialAdvice}
	}
	if err != nil {
		return Location{}, &Error{
			Msg:    quote(text) + " is not a valid URL",
			Advice: "write s3://bucket/prefix?endpoint=http://host:port; other signs than letters, digits and -._~/ are written as %XX",
		}
	}
	place := s3Place{bucket: u.Hostname(), prefix: strings.Trim(u.Path, "/")}
	switch {
	case u.Port() != "":
		return Location{}, &Error{
			Msg:    quote(text) + ": a bucket has no port",
			Advice: "for a server of your own write s3://bucket/prefix?endpoint=http://" + u.Host,
		}
	case place.bucket == "":
		return Location{}, &Error{Msg: quote(text) + " names no bucket", Advice: "write s3://bucket/prefix"}
	case u.Fragment != "":
		return Location{}, &Error{Msg: quote(text) + ": what follows # would be lost", Advice: "write # as %23"}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Location{}, &Error{Msg: quote(text) + ": the part after ? can't be read", Advice: "write key=value&key=value"}
	}
	if err := place.read(text, query); err != nil {
		return Location{}, err
	}
	return Location{text: text, s3: place}, nil
}

// read takes the query's keys into the place.
func (p *s3Place) read(text string, query url.Values) error {
	known := []string{"endpoint", "region", "path-style"}
	for _, key := range slices.Sorted(maps.Keys(query)) {
		values := query[key]
		if !slices.Contains(known, key) {
			return &Error{
				Msg:    "unknown key " + quoteWord(key) + " in " + quote(text) + suggest.DidYouMean(key, "", known),
				Advice: "an s3 URL knows the keys endpoint, region and path-style",
			}
		}
		if len(values) != 1 || values[0] == "" {
			return &Error{Msg: quote(text) + ": " + key + " needs one value", Advice: "write " + key + "=…"}
		}
	}
	p.region = query.Get("region")
	p.endpoint = strings.TrimSuffix(query.Get("endpoint"), "/")
	if p.endpoint != "" {
		if err := checkEndpoint(text, p.endpoint); err != nil {
			return err
		}
		p.pathStyle = true
		if p.region == "" {
			p.region = "us-east-1" // what servers other than AWS expect
		}
	}
	if style := query.Get("path-style"); style != "" {
		on, err := strconv.ParseBool(style)
		if err != nil {
			return &Error{Msg: quote(text) + ": path-style is true or false, not " + quoteWord(style)}
		}
		p.pathStyle = on
	}
	return nil
}

func checkEndpoint(text, endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return &Error{
			Msg:    quote(text) + ": the endpoint " + quoteWord(endpoint) + " is not an http or https URL",
			Advice: "write endpoint=http://127.0.0.1:9000 or endpoint=https://host",
		}
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return &Error{Msg: quote(text) + ": the endpoint has more than a scheme, a host, a port and a path"}
	}
	return nil
}

// mentionsSecret says whether a key of the URL's query sounds like a
// credential, in any spelling.
func mentionsSecret(text string) bool {
	_, query, _ := strings.Cut(text, "?")
	for pair := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(key); err == nil {
			key = plain
		}
		key = strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(key))
		for _, word := range []string{"secret", "accesskey", "password", "token", "credential", "signature"} {
			if strings.Contains(key, word) {
				return true
			}
		}
	}
	return false
}
