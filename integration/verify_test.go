package integration_test

import (
	"encoding/xml"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"tidemark/storage"
)

// errEnough ends a listing.
var errEnough = errors.New("enough")

// nightly is a job of etc/ci: what it runs, and with what in its environment.
type nightly struct {
	env      map[string]string
	commands []string
	// report is the file that it keeps.
	report string
}

// githubJob reads the workflow for GitHub Actions. What starts MinIO is left out: the
// tests have one.
func githubJob(t *testing.T) nightly {
	t.Helper()
	var w struct {
		On struct {
			Schedule []struct{ Cron string }
		}
		Jobs map[string]struct {
			Env   map[string]string
			Steps []struct {
				Run, Uses string
				If        string
				With      map[string]string
			}
		}
	}
	readYAML(t, "github-actions.yml", &w)
	job, ok := w.Jobs["verify"]
	if !ok || len(w.Jobs) != 1 || len(w.On.Schedule) != 1 {
		t.Fatalf("jobs %v, %v", w.Jobs, w.On)
	}
	n := nightly{env: job.Env}
	starts := 0
	for _, s := range job.Steps {
		switch {
		case strings.HasPrefix(s.Run, "docker run "):
			starts++
		case s.Run != "":
			n.commands = append(n.commands, s.Run)
		case strings.HasPrefix(s.Uses, "actions/upload-artifact@") && s.If == "always()":
			n.report = s.With["path"]
		}
	}
	if starts != 1 {
		t.Errorf("%d steps start MinIO", starts)
	}
	return n
}

// gitlabJob reads the job for GitLab. What installs the shell is left out.
func gitlabJob(t *testing.T) nightly {
	t.Helper()
	var jobs map[string]struct {
		Variables map[string]string
		Before    []string `yaml:"before_script"`
		Script    []string
		Services  []struct{ Name, Alias string }
		Artifacts struct {
			When    string
			Reports struct{ Junit string }
		}
	}
	readYAML(t, "gitlab-ci.yml", &jobs)
	job, ok := jobs["verify-replica"]
	if !ok || len(jobs) != 1 || len(job.Services) != 1 || job.Artifacts.When != "always" {
		t.Fatalf("jobs %v", jobs)
	}
	for _, c := range job.Before {
		if !strings.HasPrefix(c, "apt-get ") {
			t.Errorf("before the script: %s", c)
		}
	}
	if job.Variables["MINIO_ROOT_USER"] != job.Variables["TIDEMARK_S3_ACCESS_KEY_ID"] ||
		job.Variables["MINIO_ROOT_PASSWORD"] != job.Variables["TIDEMARK_S3_SECRET_ACCESS_KEY"] ||
		!strings.Contains(job.Variables["REPLICA_URL"], "//"+job.Services[0].Alias+":") {
		t.Errorf("the job does not reach its own MinIO: %v", job.Variables)
	}
	return nightly{env: job.Variables, commands: job.Script, report: job.Artifacts.Reports.Junit}
}

func readYAML(t *testing.T, name string, to any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "etc", "ci", name))
	if err == nil {
		err = yaml.Unmarshal(b, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// run runs the commands as a runner does, one shell each, in the checkout.
func (n nightly) run(t *testing.T, env ...string) (string, error) {
	t.Helper()
	var all []byte
	for _, c := range n.commands {
		cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", c)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "TIDEMARK="+buildProgram(t))
		for k, v := range n.env {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		cmd.Env = append(cmd.Env, env...)
		out, err := cmd.CombinedOutput()
		if all = append(all, out...); err != nil {
			return string(all), err
		}
	}
	return string(all), nil
}

// testReport is what the report's root says.
type testReport struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
}

func readTestReport(t *testing.T, path string) (r testReport) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = xml.Unmarshal(b, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNightly runs the jobs of etc/ci, against MinIO: what they run, with the place
// of the replica exchanged.
func TestNightly(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"sqlite3", "bash"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("there is no %s command", name)
		}
	}
	for name, read := range map[string]func(*testing.T) nightly{"github": githubJob, "gitlab": gitlabJob} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job, at := read(t), minioPlace(t)
			if job.report == "" || job.report != job.env["REPORT"] {
				t.Errorf("it keeps %q and writes %q", job.report, job.env["REPORT"])
			}
			report := filepath.Join(t.TempDir(), "report.xml")
			env := append([]string{"REPLICA_URL=" + at.url, "REPORT=" + report}, at.env...)
			out, err := job.run(t, env...)
			if err != nil {
				t.Fatalf("%v:\n%s", err, out)
			}
			if !strings.Contains(out, "; all read") || !strings.Contains(out, "all is well") || !strings.Contains(out, "page by page") || strings.Count(out, "\nrestored ") < 6 {
				t.Errorf("it says:\n%s", out)
			}
			if r := readTestReport(t, report); r.Tests < 15 || r.Failures+r.Errors > 0 {
				t.Errorf("the report has %+v", r)
			}
			// It fails if something is wrong: here the replica is damaged.
			var first string
			err = at.bucket.List(t.Context(), "log/", "", func(o storage.Info) error { first = o.Key; return errEnough })
			if errors.Is(err, errEnough) {
				err = at.bucket.Put(t.Context(), first, strings.NewReader("garbage"), storage.PutOptions{Size: -1})
			}
			if err != nil {
				t.Fatal(err)
			}
			job.commands = []string{`"$TIDEMARK" verify "$REPLICA_URL" --junit "$REPORT"`}
			out, err = job.run(t, env...)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 3 {
				t.Errorf("%v:\n%s", err, out)
			}
			if r := readTestReport(t, report); r.Failures != 1 {
				t.Errorf("the report has %+v", r)
			}
			if _, err := os.Stat(filepath.Join("..", job.report)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a report lies in the checkout (%v)", err)
			}
		})
	}
}
