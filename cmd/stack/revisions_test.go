package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

func (r *recorder) Revisions(context.Context, string) ([]api.Revision, error) {
	return r.revisions, r.failure
}

func (r *recorder) Revision(_ context.Context, stack string, number int) (api.RevisionDetail, error) {
	r.note("revision "+stack, map[string]int{"number": number})
	return r.detail, r.failure
}

func (r *recorder) Rollback(_ context.Context, stack string, number int) (api.UpRequest, error) {
	r.note("rollback "+stack, map[string]int{"number": number})
	return api.UpRequest{
		Stack: &spec.Stack{Name: stack}, Command: "rollback", Ref: "revision 3", Options: planner.Options{RemoveOrphans: true, Pull: "missing"},
	}, r.failure
}

func (r *recorder) Diff(_ context.Context, stack string, q api.DiffRequest) (api.DiffReply, error) {
	file := "no file"
	if q.Stack != nil {
		file = "file"
	}
	q.Stack = nil
	r.note("diff "+stack+" "+file, q)
	return r.diff, r.failure
}

func exampleRevisions() []api.Revision {
	now := time.Now()
	return []api.Revision{
		{Number: 3, Time: now.Add(-time.Minute), By: "alice as root", Command: "up", Outcome: "failed", Error: "service.web[1]: no such program\nmore"},
		{Number: 2, Time: now.Add(-2 * time.Hour), By: "root", Command: "rollback", Ref: "revision 1", Outcome: "converged",
			Images: map[string]api.RevisionImage{"web": {Image: "nginx:1", ID: "sha256:aa", Digest: "sha256:bb"}}},
	}
}

func TestHistoryPrintsRevisions(t *testing.T) {
	r := &recorder{revisions: exampleRevisions()}
	s := newSandbox(t, r, demo)
	for _, c := range []struct{ name, line string }{
		{"history", "history"}, {"history-quiet", "history -q"},
		{"history-template", "history --format {{.Revision}}:{{.Command}}:{{.Images.web}}"},
	} {
		got := s.stack(strings.Fields(c.line)...)
		if got.code != 0 {
			t.Fatalf("%s: exit %d: %s", c.line, got.code, got.err)
		}
		golden(t, c.name, got.out)
	}
}

func TestARevisionIsShownAsAStackFileWithoutItsSecrets(t *testing.T) {
	r := &recorder{detail: api.RevisionDetail{
		Revision: exampleRevisions()[1], Before: 1,
		Stack: &spec.Stack{Name: "demo", Services: map[string]*spec.Service{"web": {
			Name: "web", Image: "nginx:1", Replicas: 1, Restart: spec.Restart{Condition: "always"},
			Environment: map[string]string{"TOKEN": "hunter2", "LEVEL": "debug"},
		}}},
		Differences: []spec.Difference{{Address: "service.web", Verb: spec.Changed, Changes: []spec.Change{
			{Path: "environment.TOKEN", Old: `"hunter1"`, New: `"hunter2"`}, {Path: "environment.LEVEL", Old: `"info"`, New: `"debug"`},
		}}},
	}}
	s := newSandbox(t, r, demo)
	got := s.stack("history", "show", "2")
	lines := strings.SplitN(got.out, "\n", 2)
	if !strings.HasPrefix(lines[0], "# Revision 2 of stack demo, ") || !strings.HasSuffix(lines[0], " by root: rollback revision 1") {
		t.Errorf("the first line is %q", lines[0])
	}
	golden(t, "history-show", lines[1])
	if got := s.stack("history", "show", "--format", "json"); got.code != 0 || strings.Contains(got.out, "hunter") {
		t.Errorf("exit %d, as JSON: %s%s", got.code, got.out, got.err)
	}
	if got := s.stack("history", "show", "--show-secrets"); !strings.Contains(got.out, "TOKEN: hunter2") {
		t.Errorf("asked for, the secret is not there: %s%s", got.out, got.err)
	}
}

func TestDiffPrintsValuesBelowEachOtherAndExitsWithTwo(t *testing.T) {
	r := &recorder{diff: api.DiffReply{From: 1, Differences: []spec.Difference{
		{Address: "config.site", Verb: spec.Changed, Changes: []spec.Change{{Path: "content", Old: `"aa"`, New: `"bb"`,
			Text: "--- site\n+++ site\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"}}},
		{Address: "service.web", Verb: spec.Changed, Changes: []spec.Change{
			{Path: "environment.API_KEY", Old: `"a"`, New: `"b"`}, {Path: "image", Old: `"nginx:1"`, New: `"nginx:2"`},
		}},
	}}}
	s := newSandbox(t, r, demo)
	got := s.stack("diff", "--from", "1")
	if got.code != changesAhead {
		t.Errorf("exit %d: %s", got.code, got.err)
	}
	golden(t, "diff", got.out)
	golden(t, "diff-json", s.stack("diff", "--from", "1", "--format", "json").out)
	r.diff.Differences = nil
	if got := s.stack("diff", "--from", "1"); got.code != 0 || got.out != "No difference.\n" {
		t.Errorf("exit %d: %s", got.code, got.out)
	}
	r.plan = planner.Plan{Stack: "demo", Actions: []planner.Action{{
		Kind: planner.CreateContainer, Address: "service.web[1]", Service: "web", Replica: 1, Reason: planner.SpecChanged, Detail: "image",
		Changes: []spec.Change{{Path: "image", Old: `"nginx:1"`, New: `"nginx:2"`}},
	}}}
	got = s.stack("diff")
	if got.code != changesAhead {
		t.Errorf("exit %d: %s", got.code, got.err)
	}
	golden(t, "diff-running", got.out)
}

func TestASavedPlanIsWhatUpAsksFor(t *testing.T) {
	basis := &planner.Basis{Revision: 7, Plan: "sha256:aa", Observed: map[string]string{"service.web[1]": "bb"}}
	r := &recorder{basis: basis, plan: planner.Plan{Stack: "demo", Actions: []planner.Action{{Kind: planner.StartContainer, Address: "service.web[1]"}}}}
	s := newSandbox(t, r, demo)
	if got := s.stack("plan", "--force-recreate", "-o", "saved"); got.code != changesAhead {
		t.Fatalf("exit %d: %s", got.code, got.err)
	}
	if info, err := os.Stat("saved"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the saved plan: %v, %v", info, err)
	}
	if got := s.stack("up", "-d", "--plan", "saved"); got.code != 0 {
		t.Fatalf("exit %d: %s", got.code, got.err)
	}
	want := canonical(t, `up demo {"options":{"ForceRecreate":true},"expect":{"revision":7,"plan":"sha256:aa","observed":{"service.web[1]":"bb"}}}`)
	if got := r.noted(); !strings.HasSuffix(got, want) {
		t.Errorf("asked for\n%s\nwant\n%s", got, want)
	}
	for line, want := range map[string]string{
		"up -d --plan saved web":           "about",
		"up -d --plan saved --scale web=2": "--scale",
		"-p other up -d --plan saved":      "-p",
		"up -d --plan nowhere":             "stack plan -o",
		"up -d --plan compose.yaml":        "not a plan",
	} {
		if got := s.stack(strings.Fields(line)...); got.code != 1 || !strings.Contains(got.err, want) {
			t.Errorf("%s: exit %d: %s", line, got.code, got.err)
		}
	}
}

func TestConfirmNeedsATerminalOrYes(t *testing.T) {
	r := &recorder{basis: &planner.Basis{Revision: 7}, plan: planner.Plan{Stack: "demo", Actions: []planner.Action{{Kind: planner.StartContainer, Address: "service.web[1]"}}}}
	s := newSandbox(t, r, demo)
	if got := s.stack("up", "-d", "--confirm"); got.code != 1 || !strings.Contains(got.err, "-y") {
		t.Errorf("exit %d: %s", got.code, got.err)
	}
	if got := r.noted(); strings.Contains(got, "up demo") {
		t.Errorf("asked for %s", got)
	}
	if got := s.stack("rollback", "--dry-run", "4"); got.code != 0 || strings.Contains(r.noted(), "up demo") || !strings.Contains(r.noted(), `{"number":4}`) {
		t.Errorf("exit %d: %s: asked for %s", got.code, got.err, r.noted())
	}
	if got := s.stack("rollback", "3", "--confirm", "-y"); got.code != 0 {
		t.Errorf("exit %d: %s", got.code, got.err)
	}
	want := canonical(t, `up demo {"command":"rollback","ref":"revision 3","options":{"RemoveOrphans":true,"Pull":"missing"},"expect":{"revision":7}}`)
	if got := r.noted(); !strings.HasSuffix(got, want) {
		t.Errorf("asked for\n%s\nwant\n%s", got, want)
	}
}
