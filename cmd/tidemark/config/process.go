package config

import (
	"fmt"
	"math"
	"net"
	"strconv"
)

// Process is what holds for all databases of a run together.
type Process struct {
	// MetricsAddr is the address on which metrics are served, host:port, or "" for
	// none.
	MetricsAddr string
	// MaxUploads is how many uploads may be under way at once; at least 1.
	MaxUploads int
	// MaxRequestRate is how many requests may be sent to storage in a second; 0 is
	// any number.
	MaxRequestRate float64
}

// process resolves it.
func (l *layers) process() Process {
	p := Process{MaxUploads: l.count(KeyMaxUploads, "uploads", nil), MaxRequestRate: l.rate(KeyMaxRequestRate)}
	v := l.get(KeyMetricsAddr, nil)
	if v.text == "" {
		return p
	}
	if _, port, err := net.SplitHostPort(v.text); err != nil || port == "" {
		l.refuse(v, fmt.Sprintf("%q is not an address", v.text), "write 127.0.0.1:9464, or :9464 for all of this machine's")
	}
	p.MetricsAddr = v.text
	return p
}

// rate reads a number of requests per second.
func (l *layers) rate(key string) float64 {
	v := l.get(key, nil)
	n, err := strconv.ParseFloat(v.text, 64)
	switch {
	case err != nil || math.IsNaN(n) || math.IsInf(n, 0):
		l.refuse(v, fmt.Sprintf("%q is not a number of requests", v.text), "write how many there may be in a second, or 0 for any number")
	case n < 0:
		l.refuse(v, fmt.Sprintf("the rate %s is negative", v.text), "write how many requests there may be in a second, or 0 for any number")
	}
	return n
}
