// Package minio runs a MinIO server for tests. It takes the minio program from
// PATH or builds a pinned version of it once.
//
// The environment variable TIDEMARK_TEST_MINIO decides what happens where
// there is none: "require" fails the test, "skip" skips it without trying, and
// anything else tries and skips with the reason if it cannot be had.
package minio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"tidemark/integration/child"
)

// Variable is the environment variable that decides whether MinIO is needed.
const Variable = "TIDEMARK_TEST_MINIO"

const (
	region = "us-east-1"

	startTimeout = time.Minute
	stopTimeout  = 5 * time.Second
	pollInterval = 20 * time.Millisecond
	// startAttempts is how often another port is tried when somebody takes
	// the chosen one first.
	startAttempts = 5
)

// Server is a running MinIO server.
type Server struct {
	// Endpoint is the server's URL, "http://127.0.0.1:port".
	Endpoint string
	// AccessKey and SecretKey are the credentials of its administrator.
	AccessKey, SecretKey string

	// Program is the path of the program that runs.
	Program string

	cmd *exec.Cmd
	// process ends with this one; output is complete when it has ended.
	process *child.Process
	output  *bytes.Buffer
	buckets atomic.Int64
}

// Start starts a server with a folder of its own and stops it when the test
// ends. It skips or fails the test as [Variable] says if there is no MinIO.
func Start(tb testing.TB) *Server {
	tb.Helper()
	if os.Getenv(Variable) == "skip" {
		tb.Skipf("%s=skip: tests with MinIO are switched off", Variable)
	}
	server, err := start(tb.Context(), tb.TempDir())
	if err != nil {
		unavailable(tb, err)
	}
	tb.Cleanup(func() {
		if err := server.stop(); err != nil {
			tb.Errorf("stop MinIO: %v", err)
		}
	})
	return server
}

// StartIn starts a server for a program that is no test. Its data lies in dir, and
// ctx ends only the attempt to start it. Who calls it calls Close.
func StartIn(ctx context.Context, dir string) (*Server, error) { return start(ctx, dir) }

// Close ends the server and waits for that. A second call does nothing.
func (s *Server) Close() error { return s.stop() }

// unavailable fails or skips a test that cannot have a server.
func unavailable(tb testing.TB, err error) {
	tb.Helper()
	if os.Getenv(Variable) == "require" {
		tb.Fatalf("%s=require, but there is no MinIO: %v", Variable, err)
	}
	tb.Skipf("no MinIO to test with: %v", err)
}

func start(ctx context.Context, dir string) (*Server, error) {
	program, err := find(ctx)
	if err != nil {
		return nil, err
	}
	return run(ctx, program, dir)
}

// NewBucket makes a bucket and returns its name.
func (s *Server) NewBucket(tb testing.TB) string {
	tb.Helper()
	name, err := s.CreateBucket(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return name
}

// CreateBucket makes a bucket and returns its name.
func (s *Server) CreateBucket(ctx context.Context) (name string, err error) {
	name = fmt.Sprintf("test-%d", s.buckets.Add(1))
	client := awss3.New(awss3.Options{
		BaseEndpoint: &s.Endpoint,
		Region:       region,
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
	if _, err := client.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		return "", fmt.Errorf("create bucket %s: %w", name, err)
	}
	return name, nil
}

// URL returns the address of a prefix in a bucket as tidemark's commands and
// configuration take it. Credentials are no part of it.
func (s *Server) URL(bucket, prefix string) string {
	query := "endpoint=" + url.QueryEscape(s.Endpoint) + "&region=" + region + "&path-style=true"
	return "s3://" + bucket + "/" + prefix + "?" + query
}

// Stop ends the server before its test does, for tests of an outage. The data
// stays; there is no way back but another [Start].
func (s *Server) Stop(tb testing.TB) {
	tb.Helper()
	if err := s.stop(); err != nil {
		tb.Fatalf("stop MinIO: %v", err)
	}
}

// run starts the program on free ports and waits until it is ready.
func run(ctx context.Context, program, dir string) (*Server, error) {
	var err error
	for range startAttempts {
		var s *Server
		if s, err = launch(ctx, program, dir); err != nil {
			return nil, err
		}
		if err = s.ready(ctx); err == nil {
			return s, nil
		}
		text := s.text()
		_ = s.stop() // The reason is already known.
		err = fmt.Errorf("%w; it said:\n%s", err, text)
		if !strings.Contains(text, "address already in use") && !strings.Contains(text, "port is already in use") {
			break
		}
	}
	return nil, err
}

// launch starts the process. It outlives ctx, which may end before the
// test's cleanup.
func launch(ctx context.Context, program, dir string) (*Server, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	console, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Endpoint:  "http://" + address,
		Program:   program,
		AccessKey: "tidemark-test",
		SecretKey: "tidemark-test-secret",
		output:    new(bytes.Buffer),
	}
	s.cmd = exec.CommandContext(context.WithoutCancel(ctx), program, "server", "--quiet", "--address", address, "--console-address", console, filepath.Join(dir, "data"))
	s.cmd.Env = append(os.Environ(),
		"MINIO_ROOT_USER="+s.AccessKey, "MINIO_ROOT_PASSWORD="+s.SecretKey,
		"MINIO_PROMETHEUS_AUTH_TYPE=public", "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off", "HOME="+dir)
	s.cmd.Dir = dir
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	if s.process, err = child.Start(s.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return s, nil
}

// freeAddress returns a local address that nobody listens on at the moment.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// ready waits until the server takes requests.
func (s *Server) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !s.healthy(ctx) {
		select {
		case <-tick.C:
		case <-s.process.Exited():
			return errors.New("the server ended")
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w", ctx.Err())
		}
	}
	return nil
}

func (s *Server) healthy(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Endpoint+"/minio/health/ready", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// text returns what the server has said if it has ended.
func (s *Server) text() string {
	select {
	case <-s.process.Exited():
		return s.output.String()
	default:
		return "nothing yet"
	}
}

// stop ends the process and waits for it. A second call does nothing.
func (s *Server) stop() error {
	// Windows knows no SIGTERM; there the process is killed at once.
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = s.cmd.Process.Kill()
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-s.process.Exited():
		return nil
	case <-timer.C:
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-s.process.Exited()
	return nil
}
