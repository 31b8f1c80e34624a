package reconciler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aymanbagabas/go-udiff"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// Proposal is a plan with what a user decides by.
type Proposal struct {
	planner.Plan
	// Basis is what it was made from; UpOptions.Expect takes it.
	Basis planner.Basis
	// Explanations of the addresses that were asked for.
	Explanations []planner.Explanation
}

// Propose is PlanUp with differences of configs as text, what the plan was made from, and explanations for addresses.
func (r *Reconciler) Propose(ctx context.Context, desired *spec.Stack, opts planner.Options, explain []string) (Proposal, error) {
	var p Proposal
	plan, observed, err := r.planUp(ctx, desired, opts)
	if err != nil {
		return p, err
	}
	if len(explain) > 0 {
		if p.Explanations, err = planner.Explain(desired, observed, opts, explain); err != nil {
			return p, err
		}
	}
	if p.Basis, err = r.basis(desired, observed, plan); err != nil {
		return p, err
	}
	p.Plan = plan
	r.showContents(p.Plan, desired, observed)
	return p, nil
}

// basis is what a plan is made from.
func (r *Reconciler) basis(desired *spec.Stack, observed *planner.Observed, plan planner.Plan) (planner.Basis, error) {
	s := r.stack(desired.Name)
	if _, err := r.desiredState(s); err != nil {
		return planner.Basis{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return planner.Basis{Revision: s.newest.Number, Observed: planner.Fingerprint(desired, observed), Plan: plan.Digest()}, nil
}

// ErrMoved means that what a plan was made from is not so any more. Nothing was touched.
var ErrMoved = errors.New("the plan is out of date")

// expected refuses to go on where a plan that was shown or saved is not what would be done now.
func (r *Reconciler) expected(want *planner.Basis, desired *spec.Stack, observed *planner.Observed, plan planner.Plan) error {
	if want == nil {
		return nil
	}
	now, err := r.basis(desired, observed, plan)
	if err != nil {
		return err
	}
	moved := want.Moved(now)
	switch {
	case want.Revision != now.Revision:
		return fmt.Errorf("%w: it was made from revision %d of stack %s, which is at revision %d now", ErrMoved, want.Revision, desired.Name, now.Revision)
	case len(moved) > 0:
		return fmt.Errorf("%w: since it was made, this changed: %s", ErrMoved, strings.Join(moved[:min(len(moved), 5)], ", "))
	case want.Plan != now.Plan:
		return fmt.Errorf("%w: other things would be done now", ErrMoved)
	}
	return nil
}

// expectedAfterPull is expected for the plan that is made when the pulls are done.
func expectedAfterPull(want *planner.Basis, plan planner.Plan) error {
	if want == nil || want.Plan == plan.Digest() {
		return nil
	}
	return fmt.Errorf("%w: the images that were pulled are others than those there were, and ask for more; they are in the store now, and no container was touched", ErrMoved)
}

// showContents gives the changes of configs' contents their differences as text.
func (r *Reconciler) showContents(plan planner.Plan, desired *spec.Stack, observed *planner.Observed) {
	containers := map[string]*planner.Container{}
	for i := range observed.Containers {
		containers[observed.Containers[i].ID] = &observed.Containers[i]
	}
	for i, a := range plan.Actions {
		old := containers[a.ContainerID]
		if old == nil {
			old = containers[a.Replaces]
		}
		new := desired.Services[a.Service]
		if old == nil || new == nil {
			continue
		}
		plan.Actions[i].Changes = slices.Clone(a.Changes)
		for j, ch := range a.Changes {
			key, ok := configOf(ch.Path)
			if !ok {
				continue
			}
			plan.Actions[i].Changes[j].Text = r.contentDiff(desired.Name, key, mounted(old.Spec.Configs, key), mounted(new.Configs, key), desired.Configs[sourceOf(key)])
		}
	}
}

// configOf is the key in "configs.<key>.content", where a config that is mounted twice has its target behind an @.
func configOf(path string) (string, bool) {
	key, ok := strings.CutPrefix(path, "configs.")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(key, ".content")
}

func sourceOf(key string) string {
	source, _, _ := strings.Cut(key, "@")
	return source
}

// mounted is the digest of the content that a service mounts under a key.
func mounted(mounts []spec.FileMount, key string) string {
	for _, m := range mounts {
		if m.Source == key || m.Source+"@"+m.Target == key {
			return m.Digest
		}
	}
	return ""
}

// largestDiff is how much of a content is compared line by line.
const largestDiff = 256 << 10

// contentDiff is the difference of two contents of a config as a unified diff; empty where one of them is not known or no text.
func (r *Reconciler) contentDiff(stack, key, old, new string, declared *spec.File) string {
	before, ok := r.content(stack, old)
	if !ok || old == "" || new == "" {
		return ""
	}
	after, ok := r.content(stack, new)
	if !ok {
		after, ok = declaredContent(declared, new)
	}
	if !ok || !isText(before) || !isText(after) {
		return ""
	}
	return udiff.Unified(key, key, string(before), string(after))
}

// declaredContent is what a config holds that is not applied yet.
func declaredContent(f *spec.File, digest string) ([]byte, bool) {
	if f == nil {
		return nil, false
	}
	content := f.Content
	if f.File != "" {
		info, err := os.Stat(f.File)
		if err != nil || info.Size() > largestDiff {
			return nil, false
		}
		if content, err = os.ReadFile(f.File); err != nil {
			return nil, false
		}
	}
	return content, contentDigest(content) == digest
}

func isText(content []byte) bool {
	return len(content) <= largestDiff && utf8.Valid(content) &&
		!strings.ContainsFunc(string(content), func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' && c != '\r' })
}
