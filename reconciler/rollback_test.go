package reconciler

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// withConfig is a stack of one service that has a config from a file.
func (h *host) withConfig(path, content string) *spec.Stack {
	h.Helper()
	h.Must(os.WriteFile(path, []byte(content), 0o600))
	s := stackOf("one", service("web", "sleep"))
	digest := contentDigest([]byte(content))
	s.Configs = map[string]*spec.File{"c": {Name: "c", File: path, Digest: digest}}
	s.Services["web"].Configs = []spec.FileMount{{Source: "c", Target: "/c", Digest: digest}}
	return s
}

func (h *host) rollback(n int) {
	h.Helper()
	desired, opts, err := h.Rollback(h.Context(), "one", n)
	h.Must(err)
	_, err = h.Up(h.Context(), desired, opts, nil)
	h.Must(err)
}

func TestRollbackBringsBackWhatAConfigHeldAndTakesAwayWhatCameLater(t *testing.T) {
	h := newHost(t)
	path := filepath.Join(t.TempDir(), "config")
	h.up(h.withConfig(path, "first"))
	second := h.withConfig(path, "second")
	second.Services["late"] = service("late", "sleep")
	h.up(second)
	h.Must(os.Remove(path))
	h.rollback(0)
	got, err := os.ReadFile("/proc/" + strconv.Itoa(h.one("one", "web").View.State.PID) + "/root/c")
	h.Must(err)
	if string(got) != "first" {
		t.Errorf("the config holds %q", got)
	}
	if n := len(h.Containers("one")); n != 1 {
		t.Errorf("%d containers", n)
	}
	newest := h.revisions("one")[0]
	if newest.Number != 3 || newest.Cause.Command != "rollback" || newest.Cause.Ref != "revision 1" || newest.Outcome != Converged {
		t.Errorf("the newest revision: %+v", newest)
	}
	h.rollback(0) // to what there was before
	if got := h.revisions("one")[0].Cause.Ref; got != "revision 2" {
		t.Errorf("the second rollback went to %s", got)
	}
}

func TestRollbackGoesToTheLastThatConvergedAndDiffers(t *testing.T) {
	h := newHost(t)
	if _, _, err := h.Rollback(h.Context(), "one", 0); !errors.Is(err, ErrNoRevision) {
		t.Errorf("with nothing applied: %v", err)
	}
	h.up(colored("blue"))
	if _, _, err := h.Rollback(h.Context(), "one", 0); !errors.Is(err, ErrNoRevision) {
		t.Errorf("with one revision: %v", err)
	}
	bad := colored("red")
	bad.Services["web"].Entrypoint = &[]string{"/no-such-program"}
	for _, s := range []*spec.Stack{bad, colored("green")} {
		h.Up(h.Context(), s, UpOptions{}, nil)
	}
	h.rollback(0)
	if got := h.revisions("one")[0].Cause.Ref; got != "revision 1" {
		t.Errorf("it went to %s", got)
	}
	if _, _, err := h.Rollback(h.Context(), "one", 9); !errors.Is(err, ErrNoRevision) {
		t.Errorf("to a revision that isn't there: %v", err)
	}
}

func TestAPlanIsRefusedWhenWhatItWasMadeFromHasMoved(t *testing.T) {
	h := newHost(t)
	h.up(colored("blue"))
	next := colored("green")
	propose := func() *planner.Basis {
		p, err := h.Propose(h.Context(), next, planner.Options{}, nil)
		h.Must(err)
		return &p.Basis
	}
	refused := func(what string, basis *planner.Basis, word string) {
		t.Helper()
		before := h.one("one", "web").ID
		_, err := h.Up(h.Context(), next, UpOptions{Expect: basis}, nil)
		if !errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", what, err)
		}
		if h.one("one", "web").ID != before {
			t.Errorf("%s: something was touched", what)
		}
	}
	basis := propose()
	h.Must(h.stopContainer(h.Context(), stopRequest{id: h.one("one", "web").ID}))
	refused("after a stop", basis, "service.web[1]")
	basis = propose()
	h.up(colored("red"))
	refused("after another up", basis, "revision 2")
	basis = propose()
	basis.Plan = "sha256:other"
	refused("a plan that does something else", basis, "other things")
	if _, err := h.Up(h.Context(), next, UpOptions{Expect: propose()}, nil); err != nil {
		t.Errorf("with nothing moved: %v", err)
	}
}

func TestAPlanShowsWhatChangedInAConfig(t *testing.T) {
	h := newHost(t)
	path := filepath.Join(t.TempDir(), "config")
	h.up(h.withConfig(path, "a\nb\nc\n"))
	p, err := h.Propose(h.Context(), h.withConfig(path, "a\nB\nc\n"), planner.Options{}, []string{"service.web"})
	h.Must(err)
	text := planner.Render(p.Plan, planner.RenderOptions{})
	for _, line := range []string{"-b\n", "+B\n", " c\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("the plan lacks %q:\n%s", line, text)
		}
	}
	if len(p.Explanations) != 1 || p.Explanations[0].Address != "service.web[1]" {
		t.Errorf("explanations: %+v", p.Explanations)
	}
	h.Must(os.WriteFile(path, []byte("x\x00y"), 0o600))
	binary := h.withConfig(path, "x\x00y")
	if p, err = h.Propose(h.Context(), binary, planner.Options{}, nil); err != nil || strings.Contains(planner.Render(p.Plan, planner.RenderOptions{}), "@@") {
		t.Errorf("what is no text was compared line by line: %v", err)
	}
}
