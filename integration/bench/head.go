package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-shellwords"

	"tidemark/integration/minio"
)

// head says what was measured, where and when.
type head struct {
	// Command is the whole command line.
	Command string    `json:"command"`
	Date    time.Time `json:"date"`
	// Machine is the system and the processor, CPUs how many of these there are.
	Machine    string `json:"machine"`
	CPUs       int    `json:"cpus"`
	Tidemark   string `json:"tidemark"`
	Go         string `json:"go"`
	SQLite     string `json:"sqlite"`
	MinIO      string `json:"minio"`
	Litestream string `json:"litestream"`
}

// head asks the programs for their versions.
func (b *bench) head(ctx context.Context, args []string) (h head, err error) {
	h = head{
		Command: commandLine(args), Date: time.Now().UTC().Truncate(time.Second),
		Machine: machine(), CPUs: runtime.NumCPU(), MinIO: none, Litestream: none,
	}
	if err := h.addTidemark(ctx, b.tidemark); err != nil {
		return h, err
	}
	if rev := checkout(ctx); b.built && h.Tidemark == "(devel)" && rev != "" {
		h.Tidemark = rev
	}
	if b.minio != nil {
		h.MinIO = firstLine(ctx, b.minio.Program, "--version")
		if strings.Contains(h.MinIO, "DEVELOPMENT") { // it was built by its version, which it does not know
			h.MinIO = minio.Version
		}
	}
	if b.litestream != "" {
		h.Litestream = firstLine(ctx, b.litestream, "version")
	}
	return h, nil
}

// addTidemark asks tidemark for its version, and those of what it is built with.
func (h *head) addTidemark(ctx context.Context, program string) error {
	out, err := exec.CommandContext(ctx, program, "version", "--json").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", program, err)
	}
	var v struct {
		Version, Revision, Go, SQLite string
		Modified                      bool
	}
	if err := json.Unmarshal(out, &v); err != nil {
		return fmt.Errorf("ask %s for its version: %w", program, err)
	}
	h.Tidemark, h.Go, h.SQLite = v.Version, v.Go, v.SQLite
	if v.Revision != "" && !strings.Contains(v.Version, v.Revision[:min(12, len(v.Revision))]) {
		h.Tidemark += " " + v.Revision
	}
	if v.Modified && !strings.Contains(v.Version, "dirty") {
		h.Tidemark += ", with local changes"
	}
	return nil
}

// checkout is the revision of the sources, where git tells. A build can leave it out.
func checkout(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// firstLine is what a program says first.
func firstLine(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil || line == "" {
		return "unknown version"
	}
	return line
}

// commandLine is the command as it is typed.
func commandLine(args []string) string {
	words := []string{"go", "run", "./integration/bench"}
	for _, a := range args {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}

// quote quotes a word for a shell if it has to be.
func quote(word string) string {
	if got, err := shellwords.Parse(word); err == nil && len(got) == 1 && got[0] == word && !strings.ContainsAny(word, "*?[]{}~#!&$") {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// machine is the system and, where it tells, the processor and the memory.
func machine() string {
	text := runtime.GOOS + "/" + runtime.GOARCH
	if model := infoLine("/proc/cpuinfo", "model name"); model != "" {
		text += ", " + model
	}
	kib, unit, _ := strings.Cut(infoLine("/proc/meminfo", "MemTotal"), " ")
	if n, err := strconv.ParseFloat(kib, 64); err == nil && unit == "kB" {
		text += ", " + show(n*1024, "B") + " of memory"
	}
	return text
}

// infoLine is the value of the first line of a file that begins with a key and a colon.
func infoLine(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == key {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}

// lines are the head as it stands above a table, below the command.
func (h *head) lines() []string {
	return []string{
		"Date: " + h.Date.Format(time.RFC3339),
		fmt.Sprintf("Machine: %s; CPUs: %d, shared by application, replicator and MinIO", h.Machine, h.CPUs),
		fmt.Sprintf("tidemark %s, %s, SQLite %s", h.Tidemark, h.Go, h.SQLite),
		"MinIO: " + h.MinIO,
		"Litestream: " + h.Litestream,
	}
}
