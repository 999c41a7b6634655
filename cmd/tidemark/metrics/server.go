package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// maxScrapes is how many may be answered at a time: each takes memory for all
	// that it tells.
	maxScrapes = 3
	// headerPatience is how long a client may take to ask, idlePatience how long it
	// may keep a connection that it does not use.
	headerPatience = 10 * time.Second
	idlePatience   = 2 * time.Minute
	// stopPatience is how long a stop waits for answers that are under way.
	stopPatience = 2 * time.Second
)

// Server answers over HTTP: /metrics for Prometheus, /healthz for who wants one word.
// There is neither a password nor TLS, so it belongs on an address that only those can
// reach who may know the names of all databases.
type Server struct {
	http   *http.Server
	addr   string
	logger *slog.Logger
	done   chan struct{}
	stop   sync.Once
}

// Serve begins to answer on addr, a host and a port as in "127.0.0.1:9464"; port 0 is
// any that is free. It listens when it returns, so that an address that is taken or
// wrong is an error at once. It goes on, also after ctx has ended, until Stop. logger
// is told what goes wrong with an answer.
func Serve(ctx context.Context, addr string, source Source, logger *slog.Logger) (*Server, error) {
	handler, err := newHandler(source, logger)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve metrics on %q: %w", addr, err)
	}
	s := &Server{
		http: &http.Server{
			Handler: handler, ReadHeaderTimeout: headerPatience, IdleTimeout: idlePatience,
			ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		},
		addr: listener.Addr().String(), logger: logger, done: make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			logger.Error("metrics are not served any more", slog.Any("err", err))
		}
	}()
	return s, nil
}

// Addr is the address that it listens on.
func (s *Server) Addr() string { return s.addr }

// Stop lets answers that are under way end, for a moment, and cuts off the rest. It may
// be called again.
func (s *Server) Stop() {
	s.stop.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			s.logger.Debug("an answer about metrics was cut off", slog.Any("err", errors.Join(err, s.http.Close())))
		}
		<-s.done
	})
}

// newHandler gives what answers.
func newHandler(source Source, logger *slog.Logger) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		NewCollector(source), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	}))
	mux.Handle("GET /healthz", health{source})
	return mux, nil
}
