package gitops

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stack-run/stack/reconciler/gitops/declare"
	"github.com/stack-run/stack/reconciler/gitops/status"
)

func TestATagThatWasMovedIsRefusedUntilItIsAllowed(t *testing.T) {
	for what, ref := range map[string]declare.Ref{"a tag": {Tag: "v1.0.0"}, "the highest tag of a range": {SemVer: "^1"}} {
		t.Run(what, func(t *testing.T) {
			l := newLab(t)
			first := l.commit(map[string]string{"x/compose.yaml": stack("one")})
			l.git("tag", "v1.0.0")
			l.follow(func(r *declare.Repository) { r.Ref = ref })
			_, calls := l.sync()
			l.expect("the tag", calls, "up x one by Ada <a@b>")

			second := l.commit(map[string]string{"x/compose.yaml": stack("two")})
			l.git("tag", "-f", "-a", "-m", "moved", "v1.0.0")
			for range 2 {
				s, calls := l.sync()
				l.expect("the tag that was moved", calls)
				c := s.Condition(status.Ready)
				if c.Reason != status.Rewritten || !strings.Contains(c.Message, "the tag v1.0.0 was moved from "+first[:12]+" to "+second[:12]) ||
					!strings.Contains(c.Message, "--allow-rewrite") || s.Applied.ID != first || len(s.History) != 2 {
					t.Errorf("condition %+v, %s is applied, %d in the history", c, s.Applied.ID, len(s.History))
				}
			}
			if _, err := l.Sync(t.Context(), "repo", SyncOptions{AllowRewrite: true, Force: true}); err != nil {
				t.Fatal(err)
			}
			l.expect("the tag where that is allowed", l.engine.took(), "up x two by Ada <a@b>")

			l.commit(map[string]string{"x/compose.yaml": stack("three")})
			l.git("tag", "v1.0.1")
			want := []string{"up x three by Ada <a@b>"}
			if ref.Tag != "" {
				want = nil
			}
			_, calls = l.sync()
			l.expect("another tag", calls, want...)
		})
	}
}

func TestCheckoutsOfRevisionsThatWereRefusedAreNotKept(t *testing.T) {
	l := newLab(t)
	l.commit(map[string]string{"x/compose.yaml": stack("one")})
	l.follow(nil)
	l.sync()
	for range 4 {
		l.commit(map[string]string{"x/compose.yaml": "services: {a: {imaje: one}}\n"})
		if s, _ := l.sync(); s.Condition(status.Ready).Reason != status.InvalidStack {
			t.Fatalf("condition %+v", s.Condition(status.Ready))
		}
	}
	found, err := filepath.Glob(filepath.Join(l.dir, ".state/repo/revisions/*.json"))
	if err != nil || len(found) != 2 {
		t.Errorf("checked out are %v, not what is applied and what was attempted last: %v", found, err)
	}
	if _, err := os.Stat(filepath.Join(l.dir, ".state/repo/current/repo/x/compose.yaml")); err != nil {
		t.Error(err)
	}
}
