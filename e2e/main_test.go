// Package e2e tests Stack as its users have it: the programs, real containers, registries, servers and networks. Each test
// has a machine of its own (e2e/host), which must be clean after it.
package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

// start gives a test its machine, in parallel to others.
func start(t *testing.T, options ...host.Option) *host.Host {
	t.Helper()
	t.Parallel()
	return host.New(t, options...)
}

func contains(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s lacks %q:\n%s", what, word, text)
		}
	}
}

// equal compares outputs of programs.
func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// makeExample runs an example's make on the machine, in its folder in the repository.
func makeExample(h *host.Host, example string, args ...string) string {
	h.T.Helper()
	dir := filepath.Join(host.Repository(), "examples", example)
	fetchModules(h.T, dir)
	h.T.Cleanup(func() { exec.Command("make", "-C", dir, "clean").Run() })
	bin, err := host.Programs()
	if err != nil {
		h.T.Fatal(err)
	}
	cmd := h.Command(append([]string{"make", "-s", "-C", dir, "STACK=" + filepath.Join(bin, "stack")}, args...)...)
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOFLAGS", "GOROOT"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			h.T.Fatal(err)
		}
		cmd.Env = append(cmd.Env, name+"="+strings.TrimSpace(string(value)))
	}
	cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"))
	r := h.Run(cmd)
	if r.Code != 0 {
		h.T.Fatalf("make in %s: %v", example, r)
	}
	return r.Stdout
}

// fetchModules downloads what an example's own Go modules need: its machine has no way out.
func fetchModules(t testing.TB, dir string) {
	t.Helper()
	modules, err := filepath.Glob(filepath.Join(dir, "*", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range modules {
		if out, err := exec.Command("go", "-C", filepath.Dir(module), "mod", "download").CombinedOutput(); err != nil {
			t.Fatalf("modules of %s: %v: %s", module, err, out)
		}
	}
}

// inExample runs the stack command in an example's folder.
func inExample(h *host.Host, example string, args ...string) string {
	h.T.Helper()
	return h.Stack(append([]string{"--project-directory", filepath.Join(host.Repository(), "examples", example)}, args...)...)
}
