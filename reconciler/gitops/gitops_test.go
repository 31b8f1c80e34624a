package gitops

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
	"github.com/stack-run/stack/spec"
)

// engine stands for the reconciler, which has tests of its own: it notes what it is asked, and fails as told.
type engine struct {
	mu      sync.Mutex
	desired map[string]*spec.Stack
	calls   []string
	fail    func(*spec.Stack) error
}

func (e *engine) Up(_ context.Context, s *spec.Stack, o UpOptions) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.desired[s.Name] = s
	e.calls = append(e.calls, fmt.Sprintf("up %s %s by %s", s.Name, s.Services["a"].Image, o.Cause.By))
	if e.fail != nil {
		return 1, e.fail(s)
	}
	return 1, nil
}

func (e *engine) Down(_ context.Context, name string, volumes bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.desired, name)
	e.calls = append(e.calls, fmt.Sprintf("down %s %v", name, volumes))
	return nil
}

func (e *engine) Desired(name string) (*spec.Stack, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.desired[name], nil
}

func (e *engine) Mounted() (map[string]bool, error) { return map[string]bool{}, nil }

// took are the calls since the last look.
func (e *engine) took() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	calls := e.calls
	e.calls = nil
	return calls
}

// lab is a controller, its engine and a repository to follow.
type lab struct {
	*Controller
	t      *testing.T
	engine *engine
	dir    string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, engine: &engine{desired: map[string]*spec.Stack{}}, dir: t.TempDir()}
	l.git("init", "-q", "-b", "main", ".")
	l.start()
	return l
}

func (l *lab) start() {
	l.t.Helper()
	c, err := New(Options{
		Root: filepath.Join(l.dir, ".state"), RunDir: filepath.Join(l.dir, ".run"), File: filepath.Join(l.dir, ".gitops.yaml"),
		Stacks: l.engine, Host: "test", Logf: l.t.Logf,
	})
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.Controller = c
	l.t.Cleanup(c.Close)
}

func (l *lab) git(args ...string) string {
	l.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = l.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=a@b")
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (l *lab) commit(files map[string]string) string {
	l.t.Helper()
	for name, text := range files {
		file := filepath.Join(l.dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			l.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			l.t.Fatal(err)
		}
		l.git("add", name)
	}
	l.git("commit", "-q", "--allow-empty", "-m", "x")
	return l.git("rev-parse", "HEAD")
}

func (l *lab) follow(change func(*declare.Repository)) {
	l.t.Helper()
	r := declare.Repository{Name: "repo", URL: "file://" + l.dir, Ref: declare.Ref{Branch: "main"}, Interval: declare.Duration(time.Hour), Path: "*/compose.yaml"}
	if change != nil {
		change(&r)
	}
	if err := l.Add(r, true); err != nil {
		l.t.Fatal(err)
	}
}

// sync reconciles as the interval does and returns the repository with what the engine was asked.
func (l *lab) sync() (status.Repository, []string) {
	l.t.Helper()
	s, err := l.Sync(l.t.Context(), "repo", SyncOptions{By: "test"})
	if err != nil {
		l.t.Fatal(err)
	}
	calls := l.engine.took()
	slices.Sort(calls)
	return s, calls
}

func stack(image string) string { return "services: {a: {image: " + image + "}}\n" }

func (l *lab) expect(what string, calls []string, want ...string) {
	l.t.Helper()
	if !slices.Equal(calls, want) {
		l.t.Errorf("%s: the engine was asked %q, want %q", what, calls, want)
	}
}

func TestOnlyStacksThatChangedAreAppliedAndThoseThatLeftAreTakenDown(t *testing.T) {
	l := newLab(t)
	l.commit(map[string]string{"x/compose.yaml": stack("one"), "y/compose.yaml": stack("one")})
	l.follow(nil)
	_, calls := l.sync()
	l.expect("the first revision", calls, "up x one by Ada <a@b>", "up y one by Ada <a@b>")
	l.commit(map[string]string{"x/compose.yaml": stack("two"), "README": "x"})
	_, calls = l.sync()
	l.expect("a change of one", calls, "up x two by Ada <a@b>")
	_, calls = l.sync()
	l.expect("nothing new", calls)
	l.engine.mu.Lock()
	delete(l.engine.desired, "y") // somebody took it down
	l.engine.mu.Unlock()
	_, calls = l.sync()
	l.expect("one that somebody took down", calls, "up y one by Ada <a@b>")
	l.git("rm", "-q", "-r", "y")
	l.commit(nil)
	s, calls := l.sync()
	l.expect("one that left", calls, "down y false")
	if len(s.Stacks) != 1 || s.Stacks[0].Name != "x" {
		t.Errorf("the inventory has %+v", s.Stacks)
	}
}

func TestWhatIsWrongWithAnyStackIsToldOfAllAndNothingIsTouched(t *testing.T) {
	l := newLab(t)
	l.commit(map[string]string{"x/compose.yaml": "services: {a: {imaje: x}}\n", "y/compose.yaml": "services: {a: {image: x, env_file: /etc/passwd}}\n",
		"z/compose.yaml": stack("one"), "w/compose.yaml": "name: z\n" + stack("one")})
	l.follow(nil)
	s, calls := l.sync()
	l.expect("a revision with mistakes", calls)
	c := s.Condition(status.Applied)
	for _, words := range []string{"x/compose.yaml:1:16", "imaje", "the stack z is in w/compose.yaml too"} {
		if !strings.Contains(c.Message, words) {
			t.Errorf("%q is not in %q", words, c.Message)
		}
	}
	if c.Status != status.False || s.Verdict == "" {
		t.Errorf("condition %+v, verdict %q", c, s.Verdict)
	}
	if _, err := os.Lstat(filepath.Join(l.dir, ".state/repo/current")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the checkout was switched: %v", err)
	}
}

func TestFilesOfTheHostAreReadOnlyWhereAllowed(t *testing.T) {
	l := newLab(t)
	host := filepath.Join(t.TempDir(), "host.env")
	if err := os.WriteFile(host, []byte("A=1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.commit(map[string]string{"x/compose.yaml": "services: {a: {image: x, env_file: " + host + "}}\n"})
	l.follow(nil)
	s, calls := l.sync()
	l.expect("a file of the host", calls)
	if c := s.Condition(status.Ready); c.Reason != status.Unsafe || !strings.Contains(c.Message, "hostFiles") {
		t.Errorf("condition %+v", c)
	}
	l.follow(func(r *declare.Repository) { r.HostFiles = []string{filepath.Dir(host)} })
	_, calls = l.sync()
	l.expect("one that is allowed", calls, "up x x by Ada <a@b>")
}

func TestAFailureThatMayPassIsTriedAgainAtGrowingDistances(t *testing.T) {
	l := newLab(t)
	l.commit(map[string]string{"x/compose.yaml": stack("one")})
	l.engine.fail = func(*spec.Stack) error { return fmt.Errorf("%w: the registry is down", ErrTemporary) }
	l.follow(nil)
	var last time.Duration
	for i := range 4 {
		s, _ := l.sync()
		d := s.NextRun.Sub(s.LastRun)
		if s.Verdict != "" || s.Failures < i+1 || d <= last || d > time.Minute*2 {
			t.Errorf("after %d failures the next try comes in %v, verdict %q", s.Failures, d, s.Verdict)
		}
		last = d
	}
	if s, _ := l.sync(); len(s.History) != 1 {
		t.Errorf("the history repeats itself: %+v", s.History)
	}
	l.engine.mu.Lock()
	l.engine.fail = nil
	l.engine.mu.Unlock()
	if s, _ := l.sync(); s.Condition(status.Ready).Status != status.True || s.Failures != 0 {
		t.Errorf("it does not recover: %+v", s.Conditions)
	}
}

func TestARevisionThatFailedGoesBackToTheLastThatConverged(t *testing.T) {
	l := newLab(t)
	l.commit(map[string]string{"x/compose.yaml": stack("good")})
	l.follow(func(r *declare.Repository) { r.OnFailure = declare.Rollback })
	l.sync()
	l.engine.mu.Lock()
	l.engine.fail = func(s *spec.Stack) error {
		if s.Services["a"].Image == "bad" {
			return errors.New("unhealthy")
		}
		return nil
	}
	l.engine.mu.Unlock()
	l.commit(map[string]string{"x/compose.yaml": stack("bad")})
	s, calls := l.sync()
	l.expect("a revision that fails", calls, "up x bad by Ada <a@b>", "up x good by Ada <a@b>")
	if c := s.Condition(status.Ready); c.Reason != status.RolledBack || s.Stack("x").Outcome != status.StackRolledBack {
		t.Errorf("condition %+v, stack %+v", c, s.Stack("x"))
	}
	_, calls = l.sync()
	l.expect("the verdict", calls)
	l.commit(map[string]string{"x/compose.yaml": stack("good")})
	_, calls = l.sync()
	l.expect("a revert", calls, "up x good by Ada <a@b>")
}

func TestTheNextDaemonGoesOnWithWhatWasInterrupted(t *testing.T) {
	l := newLab(t)
	l.commit(map[string]string{"x/compose.yaml": stack("one"), "y/compose.yaml": stack("one")})
	l.follow(nil)
	l.sync()
	l.Close()
	// As a killed daemon leaves it: in the middle of x.
	file := filepath.Join(l.dir, ".state/repo/state.json")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(data), `"outcome":"applied"`, `"outcome":"applying"`, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l.start()
	_, calls := l.sync()
	l.expect("the next daemon", calls, "up x one by Ada <a@b>")
	// A torn state is as good as none: everything is applied again, which changes nothing.
	l.Close()
	if err := os.WriteFile(file, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	l.start()
	_, calls = l.sync()
	if !slices.Contains(calls, "up y one by Ada <a@b>") {
		t.Errorf("after a torn state the engine was asked %q", calls)
	}
}

func TestRequestsAtTheSameTimeEndEachWithAnAnswer(t *testing.T) {
	l := newLab(t)
	l.commit(map[string]string{"x/compose.yaml": stack("one")})
	l.follow(nil)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for range 5 {
				switch i % 4 {
				case 0:
					if _, err := l.Sync(t.Context(), "repo", SyncOptions{Force: true}); err != nil && !errors.Is(err, ErrSuspended) && !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
				case 1:
					if err := l.Suspend("repo", i%8 == 1); err != nil && !errors.Is(err, ErrNotFound) {
						t.Error(err)
					}
				case 2:
					if _, err := l.List(); err != nil {
						t.Error(err)
					}
					l.hooked("repo")
				case 3:
					l.follow(nil)
				}
			}
		})
	}
	group.Wait()
	if err := l.Suspend("repo", false); err != nil {
		t.Fatal(err)
	}
	if s, _ := l.sync(); s.Condition(status.Ready).Status != status.True {
		t.Errorf("in the end it is %+v", s.Conditions)
	}
	if err := l.Remove(t.Context(), "repo", true, false); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(l.dir, ".state")); len(left) != 0 {
		t.Errorf("%s is left", left[0].Name())
	}
}

func TestWhatContainersWroteIsRemovedOnlyWhenAskedFor(t *testing.T) {
	l := newLab(t)
	l.commit(map[string]string{"x/compose.yaml": "services: {a: {image: one, volumes: [\"./state:/state\", \"./www:/www\"]}}\n", "x/www/page": "1"})
	l.follow(nil)
	l.sync()
	data := filepath.Join(l.dir, ".state/repo/data/x/state")
	mounts := l.engine.desired["x"].Services["a"].Mounts
	if mounts[0].Source != data || !strings.HasPrefix(mounts[1].Source, filepath.Join(l.dir, ".state/repo/mounts/")) {
		t.Fatalf("mounts are %+v", mounts)
	}
	if err := os.MkdirAll(data, 0o755); err != nil { // as the start of a container makes it
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "db"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(t.Context(), "repo", true, false); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(data, "db")); err != nil || string(text) != "precious" {
		t.Fatalf("the data is gone: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(l.dir, ".state/repo")); len(left) != 1 {
		t.Errorf("left are %v", left)
	}
	l.follow(nil)
	l.sync()
	if err := l.Remove(t.Context(), "repo", true, true); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(l.dir, ".state")); len(left) != 0 {
		t.Errorf("%s is left", left[0].Name())
	}
}
