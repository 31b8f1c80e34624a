package planner

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
)

// TestPurity keeps out what could make a plan depend on anything but its arguments.
func TestPurity(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	impure := []string{"os", "io", "net", "time/tzdata", "sync", "context", "math/rand", "math/rand/v2", "runtime", "syscall"}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range parsed.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			first, _, _ := strings.Cut(path, "/")
			standard := !strings.Contains(first, ".")
			if !standard && path != "github.com/stack-run/stack/spec" || slices.Contains(impure, path) || first == "os" || first == "net" {
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}

func TestReadyAndDependents(t *testing.T) {
	p := Plan{Actions: []Action{{ID: 0}, {ID: 1, After: []int{0}}, {ID: 2, After: []int{0}}, {ID: 3, After: []int{1, 2}}}}
	steps := []struct {
		done map[int]bool
		want []int
	}{
		{nil, []int{0}},
		{map[int]bool{0: true}, []int{1, 2}},
		{map[int]bool{0: true, 2: true}, []int{1}},
		{map[int]bool{0: true, 1: true, 2: true}, []int{3}},
		{map[int]bool{0: true, 1: true, 2: true, 3: true}, nil},
	}
	for _, s := range steps {
		if got := p.Ready(s.done); !slices.Equal(got, s.want) {
			t.Errorf("with %v done, %v are ready, not %v", s.done, got, s.want)
		}
	}
	if got := fmt.Sprint(p.Dependents()); got != "[[1 2] [3] [3] []]" {
		t.Errorf("dependents are %s", got)
	}
}

func TestCheckFindsWhatIsNoPlan(t *testing.T) {
	for name, p := range map[string]Plan{
		"a wrong id":        {Actions: []Action{{ID: 1}}},
		"a cycle":           {Actions: []Action{{ID: 0, After: []int{1}}, {ID: 1, After: []int{0}}}},
		"after itself":      {Actions: []Action{{ID: 0, After: []int{0}}}},
		"after one unknown": {Actions: []Action{{ID: 0, After: []int{-1}}}},
	} {
		if p.Check() == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestProblemsAreClassified(t *testing.T) {
	desired := &spec.Stack{Name: "demo", Services: map[string]*spec.Service{
		"a": {Name: "a", Image: "x", PullPolicy: "never", Replicas: 1},
		"b": {Name: "b", Image: "x", Replicas: 2, ContainerName: "b"},
	}}
	_, err := Up(desired, &Observed{}, Options{Pull: "policy"})
	if !errors.Is(err, ErrImageMissing) || !errors.Is(err, ErrScale) || errors.Is(err, ErrNameTaken) {
		t.Errorf("the error is %v", err)
	}
	var problem Problem
	if !errors.As(err, &problem) || problem.Address != "service.a" {
		t.Errorf("the first problem is %v", problem)
	}
}

func TestDigestsCoverOptionsAndNotDefaults(t *testing.T) {
	yes, no := true, false
	plain := NetworkDigest(spec.Network{Key: "front", Name: "demo_front"})
	same := NetworkDigest(spec.Network{
		Key: "other", Name: "demo_front", Driver: "bridge", EnableIPv4: &yes, EnableIPv6: &no, IPAMDriver: "default", Labels: map[string]string{"a": "b"},
	})
	if plain != same {
		t.Error("defaults that are written out change a network's digest")
	}
	for what, n := range map[string]spec.Network{
		"internal": {Name: "demo_front", Internal: true},
		"ipv6":     {Name: "demo_front", EnableIPv6: &yes},
		"no ipv4":  {Name: "demo_front", EnableIPv4: &no},
		"driver":   {Name: "demo_front", Driver: "macvlan"},
		"options":  {Name: "demo_front", DriverOpts: map[string]string{"mtu": "1400"}},
		"subnet":   {Name: "demo_front", IPAM: []spec.IPAMPool{{Subnet: "10.9.0.0/24"}}},
	} {
		if NetworkDigest(n) == plain {
			t.Errorf("%s makes no difference to a network's digest", what)
		}
	}
	volume := VolumeDigest(spec.Volume{Name: "demo_data"})
	if volume != VolumeDigest(spec.Volume{Key: "data", Name: "demo_data", Driver: "local", Labels: map[string]string{"a": "b"}}) {
		t.Error("defaults that are written out change a volume's digest")
	}
	if volume == VolumeDigest(spec.Volume{Name: "demo_data", DriverOpts: map[string]string{"type": "nfs"}}) {
		t.Error("options make no difference to a volume's digest")
	}
}

func TestRenderIsSafeOnATerminal(t *testing.T) {
	p := Plan{Actions: []Action{{
		Kind: UpdateContainer, Address: "service.web[1]", Reason: SpecChanged, Detail: "labels.\x1b[2J",
		Changes: []spec.Change{{Path: "labels.a", Old: `"` + "\u009b31m" + `"`, New: `"` + strings.Repeat("x", 100) + `"`}},
	}}}
	got := Render(p, RenderOptions{})
	want := `  ~ service.web[1]  update    spec changed: labels.\x1b[2J
      labels.a: "\u009b31m" → "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…

Plan: 1 to update.
`
	if got != want {
		t.Errorf("got\n%s\nnot\n%s", got, want)
	}
	if colored := Render(p, RenderOptions{Color: true}); !strings.Contains(colored, "\x1b[33m  ~\x1b[0m \x1b[1mservice.web[1]\x1b[0m") {
		t.Errorf("in color: %q", colored)
	}
}

// BenchmarkNothingToDo is an up of 1,000 services that all run.
func BenchmarkNothingToDo(b *testing.B) {
	desired, observed := thousand()
	b.ReportAllocs()
	for b.Loop() {
		p, err := Up(desired, observed, Options{})
		if err != nil || len(p.Actions) > 0 {
			b.Fatal(err, p)
		}
	}
}

// BenchmarkFromNothing is an up of 1,000 services of which none is there.
func BenchmarkFromNothing(b *testing.B) {
	desired, observed := thousand()
	observed.Containers, observed.Networks = nil, nil
	b.ReportAllocs()
	for b.Loop() {
		if p, err := Up(desired, observed, Options{}); err != nil || len(p.Actions) < 2000 {
			b.Fatal(err, p)
		}
	}
}

func thousand() (*spec.Stack, *Observed) {
	network := &spec.Network{Key: "default", Name: "demo_default"}
	desired := &spec.Stack{Name: "demo", Services: map[string]*spec.Service{}, Networks: map[string]*spec.Network{"default": network}}
	observed := &Observed{
		Stack: "demo", Images: map[string]*Image{"app": {ID: "1"}},
		Networks: map[string]*Network{"demo_default": {Name: "demo_default", ID: "n", Stack: "demo", Digest: NetworkDigest(*network)}},
	}
	for i := range 1000 {
		s := spec.Service{
			Name: fmt.Sprintf("s%03d", i), Image: "app", Replicas: 1, Networks: map[string]*spec.Attachment{"default": {}},
			Environment: map[string]string{"A": "b", "C": "d"}, Restart: spec.Restart{Condition: spec.RestartAlways},
		}
		if i > 0 {
			s.DependsOn = map[string]spec.Dependency{fmt.Sprintf("s%03d", i/10): {Condition: spec.Started, Required: true}}
		}
		desired.Services[s.Name] = &s
		observed.Containers = append(observed.Containers, Container{
			ID: s.Name, Name: "demo-" + s.Name + "-1", Service: s.Name, Replica: 1, Spec: s, ImageID: "1", State: Running,
			Networks: map[string]string{"demo_default": "n"},
		})
	}
	return desired, observed
}
