package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// values are metrics by name and labels, as `requests_total{kind="put"}`.
type values map[string]float64

// scrape asks an address for metrics in Prometheus' text format.
func scrape(ctx context.Context, url string) (values, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask for metrics: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask %s for metrics: %s", url, resp.Status)
	}
	return readValues(resp.Body)
}

// readValues reads lines of a name, perhaps labels, and a value. A time after that is
// not expected.
func readValues(r io.Reader) (values, error) {
	all := values{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		space := strings.LastIndexByte(line, ' ')
		if space < 0 {
			return nil, fmt.Errorf("a metric without a value: %q", line)
		}
		value, err := strconv.ParseFloat(line[space+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metric %q: %w", line, err)
		}
		all[line[:space]] = value
	}
	return all, lines.Err()
}

// sum adds up all of a name whose labels a function wants, nil being all. ok is false
// if there is none.
func (v values) sum(name string, want func(labels string) bool) (total float64, ok bool) {
	for key, value := range v {
		n, labels, _ := strings.Cut(key, "{")
		if n == name && (want == nil || want(labels)) {
			total, ok = total+value, true
		}
	}
	return total, ok
}

// traffic is what a storage has been asked for.
type traffic struct {
	// puts are the requests of which a storage service takes its price for writing: each
	// object, each part, and the begin and the end of an upload in parts.
	puts, others float64
	// sent is what the bodies of requests had in bytes.
	sent float64
}

// since is what was added.
func (t traffic) since(earlier traffic) traffic {
	return traffic{t.puts - earlier.puts, t.others - earlier.others, t.sent - earlier.sent}
}

// minioTraffic is what MinIO has counted since it was started.
func (b *bench) minioTraffic(ctx context.Context) (t traffic, err error) {
	v, err := scrape(ctx, b.minio.Endpoint+"/minio/metrics/v3/api/requests")
	if err != nil {
		return t, err
	}
	writes := func(labels string) bool {
		for _, name := range []string{"PutObject", "PutObjectPart", "NewMultipartUpload", "CompleteMultipartUpload"} {
			if strings.Contains(labels, `name="`+name+`"`) {
				return true
			}
		}
		return false
	}
	all, _ := v.sum("minio_api_requests_total", nil)
	t.puts, _ = v.sum("minio_api_requests_total", writes)
	t.others = all - t.puts
	t.sent, _ = v.sum("minio_api_requests_traffic_received_bytes", func(labels string) bool { return strings.Contains(labels, `type="s3"`) })
	return t, nil
}

// freeAddress is an address of this machine on which nobody listens at the moment.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
