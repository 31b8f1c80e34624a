package planner

import (
	"math/rand"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
)

// chance is a stack that was brought up, and then changed and disturbed by chance; ok is false when there is no plan.
func chance(t *testing.T, seed int64) (r *rand.Rand, m *model, ok bool) {
	t.Helper()
	r = rand.New(rand.NewSource(seed))
	m = &model{observed: &Observed{Stack: "demo", Networks: map[string]*Network{}, Volumes: map[string]*Volume{}, Images: map[string]*Image{}, Jobs: map[string]*Job{}}}
	m.desired = randomStack(r, false)
	if _, ok = m.up(t, r, Options{}); !ok {
		return r, m, false
	}
	m.desired = randomStack(r, false)
	return r, m, true
}

// Whatever changes a plan changes the fingerprint of what it was made from, and the address that moved is told.
func TestWhatChangesAPlanChangesItsFingerprint(t *testing.T) {
	compared, differ := 0, 0
	for seed := range int64(600) {
		r, m, ok := chance(t, seed)
		if !ok {
			continue
		}
		basis := func() (Basis, error) {
			plan, err := Up(m.desired, m.observed, Options{})
			return Basis{Observed: Fingerprint(m.desired, m.observed), Plan: plan.Digest()}, err
		}
		before, err := basis()
		if err != nil {
			continue
		}
		if same, _ := basis(); len(before.Moved(same)) > 0 || before.Plan != same.Plan {
			t.Fatalf("seed %d: nothing changed, and yet %v moved", seed, before.Moved(same))
		}
		for i := range m.observed.Containers {
			m.observed.Containers[i].Health = Unhealthy
		}
		if same, _ := basis(); len(before.Moved(same)) > 0 {
			t.Fatalf("seed %d: health counts: %v moved", seed, before.Moved(same))
		}
		disturb(r, m.observed)
		after, err := basis()
		if err != nil {
			continue
		}
		compared++
		if before.Plan != after.Plan {
			differ++
			if len(before.Moved(after)) == 0 {
				t.Fatalf("seed %d: the plan is another one, and nothing is said to have moved", seed)
			}
		}
	}
	if compared < 200 || differ < 50 {
		t.Errorf("%d pairs, %d of which differ, prove too little", compared, differ)
	}
}

// An explanation says "nothing" of exactly those addresses for which the plan has no action.
func TestExplanationsAgreeWithThePlan(t *testing.T) {
	explained := map[bool]int{}
	for seed := range int64(600) {
		r, m, ok := chance(t, seed)
		if !ok {
			continue
		}
		disturb(r, m.observed)
		opts := randomOptions(r, m.desired, true)
		plan, err := Up(m.desired, m.observed, opts)
		if err != nil {
			continue
		}
		acts := map[string]bool{}
		for _, a := range plan.Actions {
			if a.Kind != Wait {
				acts[a.Address] = true
			}
		}
		var addresses []string
		for name := range m.desired.Services {
			addresses = append(addresses, spec.ServiceAddress(name).String())
		}
		explanations, err := Explain(m.desired, m.observed, opts, addresses)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, e := range explanations {
			idle := strings.HasPrefix(e.Verdict, "nothing")
			explained[idle]++
			if idle == acts[e.Address] {
				t.Fatalf("seed %d: %s: %q, and the plan is\n%s", seed, e.Address, e.Verdict, Render(plan, RenderOptions{Verbose: true}))
			}
		}
	}
	if explained[true] < 100 || explained[false] < 100 {
		t.Errorf("%v prove too little", explained)
	}
}
