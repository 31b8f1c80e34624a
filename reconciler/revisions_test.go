package reconciler

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

func (h *host) revisions(stack string) []Revision {
	h.Helper()
	all, err := h.Revisions(stack)
	h.Must(err)
	return all
}

// colored is a stack of one service, whose revisions differ by a variable.
func colored(color string) *spec.Stack {
	svc := service("web", "sleep")
	svc.Environment = map[string]string{"COLOR": color}
	return stackOf("one", svc)
}

func TestARevisionIsMadeForEachChangeAndForNothingElse(t *testing.T) {
	h := newHost(t)
	cause := Cause{By: "alice", Command: "up", Ref: "abc"}
	_, err := h.Up(h.Context(), colored("blue"), UpOptions{Cause: cause}, nil)
	h.Must(err)
	h.up(colored("blue"))
	moved := colored("blue")
	moved.Services["web"].Position = "compose.yaml:9:3"
	h.up(moved)
	if n := len(h.revisions("one")); n != 1 {
		t.Errorf("%d revisions of one desired state", n)
	}
	h.up(colored("green"))
	all := h.revisions("one")
	if len(all) != 2 || all[0].Number != 2 || all[1].Number != 1 {
		t.Fatalf("revisions: %+v", all)
	}
	first := all[1]
	if first.Cause != cause || first.Outcome != Converged || first.Time.IsZero() || first.Finished.Before(first.Time) {
		t.Errorf("the first revision: %+v", first)
	}
	if pin := first.Images["web"]; pin.ID != h.one("one", "web").ImageID || pin.Image != h.one("one", "web").Image {
		t.Errorf("its image: %+v", pin)
	}
	full, err := h.Revision("one", 1)
	h.Must(err)
	if got := full.Stack.Services["web"].Environment["COLOR"]; got != "blue" {
		t.Errorf("the first revision is %s", got)
	}
	if _, err := h.Revision("one", 7); !errors.Is(err, ErrNoRevision) {
		t.Errorf("revision 7: %v", err)
	}
}

func TestTheDesiredStateIsTheNewestRevisionForTheNextDaemonToo(t *testing.T) {
	h := newHost(t)
	h.up(colored("blue"))
	h.up(colored("green"))
	h.close()
	h.open()
	desired, err := h.Desired("one")
	h.Must(err)
	if got := desired.Services["web"].Environment["COLOR"]; got != "green" {
		t.Errorf("the desired state is %s", got)
	}
	if n := h.up(colored("green")); n != 0 || len(h.revisions("one")) != 2 {
		t.Errorf("the same again took %d actions and left %d revisions", n, len(h.revisions("one")))
	}
}

func TestOutcomesTellWhatBecameOfARevision(t *testing.T) {
	h := newHost(t)
	colored := func(color string) *spec.Stack {
		s := colored(color)
		s.Policy.Reconcile = spec.Observe // the loop would finish what is interrupted
		return s
	}
	h.up(colored("blue"))
	bad := colored("red")
	bad.Services["web"].Entrypoint = &[]string{"/no-such-program"}
	if _, err := h.Up(h.Context(), bad, UpOptions{}, nil); err == nil {
		t.Fatal("a program that isn't there was started")
	}
	if rev := h.revisions("one")[0]; rev.Outcome != Failed || rev.Error == "" {
		t.Errorf("the failed revision: %+v", rev)
	}
	ctx, cancel := context.WithCancel(h.Context())
	_, err := h.Up(ctx, colored("green"), UpOptions{}, func(e Event) {
		if e.Kind == "start" {
			cancel()
		}
	})
	if err == nil {
		t.Fatal("an up whose client went away came to its end")
	}
	h.Eventually("the third revision counts as interrupted", func() bool { // while the loop looks, it is in progress
		return h.revisions("one")[0].Outcome == Interrupted
	})
	h.up(colored("blue"))
	var outcomes []Outcome
	for _, rev := range h.revisions("one") {
		outcomes = append(outcomes, rev.Outcome)
	}
	if want := []Outcome{Converged, Superseded, Failed, Converged}; !slices.Equal(outcomes, want) {
		t.Errorf("outcomes %q, want %q", outcomes, want)
	}
}

func TestOldRevisionsGoButNeverTheLastThatConverged(t *testing.T) {
	h := newHost(t)
	dir := t.TempDir()
	at := func(color string, ok bool) *spec.Stack {
		s := colored(color)
		s.Policy.History = 2
		web := s.Services["web"]
		if !ok {
			web.Entrypoint = &[]string{"/no-such-program"}
		}
		path := filepath.Join(dir, color)
		h.Must(os.WriteFile(path, []byte(color), 0o600))
		digest := contentDigest([]byte(color))
		s.Configs = map[string]*spec.File{"c": {Name: "c", File: path, Digest: digest}}
		web.Configs = []spec.FileMount{{Source: "c", Target: "/c", Digest: digest}}
		return s
	}
	h.up(at("a", true))
	h.up(at("b", true))
	for _, color := range []string{"c", "d", "e"} {
		if _, err := h.Up(h.Context(), at(color, false), UpOptions{}, nil); err == nil {
			t.Fatal("it came up")
		}
	}
	var kept []int
	for _, rev := range h.revisions("one") {
		kept = append(kept, rev.Number)
	}
	if want := []int{5, 4, 2}; !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	for color, want := range map[string]bool{"a": false, "b": true, "c": false, "d": true, "e": true} {
		if got := h.isKept("one", contentDigest([]byte(color))); got != want {
			t.Errorf("content %s is kept: %t", color, got)
		}
	}
}

func TestAContainerMadeAgainGetsTheContentThatWasApplied(t *testing.T) {
	h := newHost(t)
	path := filepath.Join(t.TempDir(), "config")
	h.Must(os.WriteFile(path, []byte("applied"), 0o600))
	s := stackOf("one", service("web", "sleep"))
	digest := contentDigest([]byte("applied"))
	s.Configs = map[string]*spec.File{"c": {Name: "c", File: path, Digest: digest}}
	s.Services["web"].Configs = []spec.FileMount{{Source: "c", Target: "/c", Digest: digest}}
	h.up(s)
	h.Must(os.WriteFile(path, []byte("edited"), 0o600))
	_, err := h.Up(h.Context(), s, UpOptions{Options: planner.Options{ForceRecreate: true}}, nil)
	h.Must(err)
	got, err := os.ReadFile("/proc/" + strconv.Itoa(h.one("one", "web").View.State.PID) + "/root/c")
	h.Must(err)
	if string(got) != "applied" {
		t.Errorf("the container has %q", got)
	}
	info, err := os.Stat(h.contentPath("one", digest))
	h.Must(err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the content is kept with mode %s", info.Mode())
	}

	next := *s
	edited := contentDigest([]byte("edited before it was read"))
	next.Configs = map[string]*spec.File{"c": {Name: "c", File: path, Digest: edited}}
	web := *s.Services["web"]
	web.Configs = []spec.FileMount{{Source: "c", Target: "/c", Digest: edited}}
	next.Services = map[string]*spec.Service{"web": &web}
	before := h.one("one", "web").ID
	if _, err := h.Up(h.Context(), &next, UpOptions{}, nil); !errors.Is(err, ErrContentChanged) {
		t.Errorf("a config that is not what was read: %v", err)
	}
	if h.one("one", "web").ID != before || len(h.revisions("one")) != 1 {
		t.Error("something was touched all the same")
	}
}

// holding are the files of stack one on disk that hold a content.
func (h *host) holding(content []byte) (found []string) {
	h.Helper()
	h.Must(filepath.WalkDir(h.stackDir("one"), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, content) {
			found = append(found, path)
		}
		return err
	}))
	return found
}

func TestInlineContentsAreInNoRevisionFile(t *testing.T) {
	h := newHost(t)
	s := stackOf("one", service("web", "sleep"))
	content := []byte("a-very-secret-word")
	s.Secrets = map[string]*spec.File{"s": {Name: "s", Content: content, Digest: contentDigest(content)}}
	s.Services["web"].Secrets = []spec.FileMount{{Source: "s", Target: "/s", Digest: contentDigest(content)}}
	h.up(s)
	found := h.holding(content)
	if want := []string{h.contentPath("one", contentDigest(content))}; !slices.Equal(found, want) {
		t.Errorf("the secret is in %q, want %q only", found, want)
	}
	h.close()
	h.open()
	desired, err := h.Desired("one")
	h.Must(err)
	if got := desired.Secrets["s"].Content; !slices.Equal(got, content) {
		t.Errorf("read again, the secret is %q", got)
	}
}

func TestASecretInAFileIsCopiedToNoDiskAndSoCantBeGoneBackToWithoutIt(t *testing.T) {
	h := newHost(t)
	path := filepath.Join(t.TempDir(), "secret")
	with := func(content string) *spec.Stack {
		h.Must(os.WriteFile(path, []byte(content), 0o600))
		s := stackOf("one", service("web", "sleep"))
		digest := contentDigest([]byte(content))
		s.Secrets = map[string]*spec.File{"s": {Name: "s", File: path, Digest: digest}}
		s.Services["web"].Secrets = []spec.FileMount{{Source: "s", Target: "/s", Digest: digest}}
		return s
	}
	h.up(with("the first word"))
	h.up(with("another word"))
	for _, content := range []string{"the first word", "another word"} {
		if found := h.holding([]byte(content)); len(found) > 0 {
			t.Errorf("%q is in %q", content, found)
		}
	}
	_, _, err := h.Rollback(h.Context(), "one", 1)
	mentions(t, err, path, "put that back")
	with("the first word")
	if _, _, err := h.Rollback(h.Context(), "one", 1); err != nil {
		t.Errorf("with what the file held: %v", err)
	}
}

func TestWhatACrashLeftOfARevisionDoesNoHarm(t *testing.T) {
	h := newHost(t)
	h.up(colored("blue"))
	h.up(colored("green"))
	h.close()
	// Killed while it wrote the third, and the power gone before what is known of the second was on the disk.
	h.Must(os.WriteFile(h.revisionPath("one", 3)+".tmp", []byte(`{"stack":{"na`), 0o600))
	h.Must(os.WriteFile(h.aboutPath("one", 3), []byte(`{"digest":"sha256:x"}`), 0o600))
	h.Must(os.WriteFile(h.aboutPath("one", 2), nil, 0o600))
	h.open()
	if all := h.revisions("one"); len(all) != 2 || time.Since(all[0].Time) > time.Hour {
		t.Errorf("revisions: %+v", all)
	}
	if n := h.up(colored("green")); n != 0 || len(h.revisions("one")) != 2 {
		t.Errorf("the same again took %d actions and left %d revisions", n, len(h.revisions("one")))
	}
	h.up(colored("red"))
	if all := h.revisions("one"); len(all) != 3 || all[0].Outcome != Converged {
		t.Errorf("revisions: %+v", all)
	}
}

func TestADamagedDesiredStateIsReportedAndReplacedByTheNextUp(t *testing.T) {
	h := newHost(t)
	h.up(colored("blue"))
	h.up(colored("green"))
	h.close()
	h.Must(os.WriteFile(h.revisionPath("one", 2), []byte("{"), 0o600))
	h.open()
	if _, err := h.Desired("one"); err == nil {
		t.Error("a damaged desired state, or an older one, was taken for it")
	}
	h.up(colored("green"))
	desired, err := h.Desired("one")
	h.Must(err)
	if got := desired.Services["web"].Environment["COLOR"]; got != "green" {
		t.Errorf("the desired state is %s", got)
	}
}

func TestTheDesiredStateOfAnOlderDaemonCounts(t *testing.T) {
	h := newHost(t)
	h.up(colored("blue"))
	h.close()
	data, err := os.ReadFile(h.revisionPath("one", 1))
	h.Must(err)
	h.Must(os.RemoveAll(filepath.Dir(h.revisionPath("one", 1))))
	h.Must(os.WriteFile(h.formerDesiredPath("one"), data, 0o600))
	h.open()
	desired, err := h.Desired("one")
	h.Must(err)
	if desired == nil || desired.Services["web"] == nil {
		t.Fatal("there is none")
	}
	h.up(colored("blue"))
	if _, err := os.Stat(h.formerDesiredPath("one")); !os.IsNotExist(err) || len(h.revisions("one")) != 1 {
		t.Errorf("it was not replaced by a revision: %v", err)
	}
}

func TestUpOfOneServiceAppliesNothingElse(t *testing.T) {
	h := newHost(t)
	file := func(web, db string) *spec.Stack {
		s := stackOf("one", service("web", "sleep"), service("db", "sleep"), service("cache", "sleep"))
		s.Services["web"].Environment = map[string]string{"COLOR": web}
		s.Services["db"].Environment = map[string]string{"COLOR": db}
		return s
	}
	only := func(s *spec.Stack, services ...string) *spec.Stack {
		_, err := h.Up(h.Context(), s, UpOptions{Options: planner.Options{Services: services}}, nil)
		h.Must(err)
		desired, err := h.Desired("one")
		h.Must(err)
		return desired
	}
	only(file("blue", "blue"), "web", "db")
	desired := only(file("green", "green"), "web")
	for name, want := range map[string]string{"web": "green", "db": "blue"} {
		if got := desired.Services[name].Environment["COLOR"]; got != want {
			t.Errorf("%s is to be %s, want %s", name, got, want)
		}
	}
	if n := desired.Services["cache"].Replicas; n != 0 {
		t.Errorf("cache, which nobody asked for, is to have %d replicas", n)
	}
	plan, err := h.PlanUp(h.Context(), desired, planner.Options{KeepStopped: true})
	h.Must(err)
	if !plan.Empty() {
		t.Errorf("keeping it would do something:\n%s", planner.Render(plan, planner.RenderOptions{}))
	}
}
