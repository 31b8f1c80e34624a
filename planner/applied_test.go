package planner

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
)

// TestApplied compares what is kept as the desired state after an up: each service's replicas and colour.
func TestApplied(t *testing.T) {
	stack := func(colors string) *spec.Stack {
		s := &spec.Stack{Name: "demo", Services: map[string]*spec.Service{}, Configs: map[string]*spec.File{}}
		for _, word := range strings.Fields(colors) {
			name, color, _ := strings.Cut(word, "=")
			s.Configs[color] = &spec.File{Name: color}
			s.Services[name] = &spec.Service{
				Name: name, Replicas: 1, Environment: map[string]string{"COLOR": color}, Configs: []spec.FileMount{{Source: color}},
			}
			if name == "web" {
				s.Services[name].DependsOn = map[string]spec.Dependency{"db": {}}
			}
		}
		return s
	}
	for name, c := range map[string]struct {
		previous   string
		containers string
		opts       Options
		want       string
	}{
		"everything":                             {"", "", Options{}, "db=new:1 job=new:1 web=new:1"},
		"everything over what was":               {"web=old db=old", "", Options{}, "db=new:1 job=new:1 web=new:1"},
		"one brings its dependencies along":      {"", "", Options{Services: []string{"web"}}, "db=new:1 job=new:0 web=new:1"},
		"one alone":                              {"", "", Options{Services: []string{"web"}, NoDeps: true}, "db=new:0 job=new:0 web=new:1"},
		"the others stay as they were applied":   {"db=old web=old", "", Options{Services: []string{"job"}}, "db=old:1 job=new:1 web=old:1"},
		"or as their containers are":             {"", "db=there", Options{Services: []string{"job"}}, "db=there:1 job=new:1 web=new:0"},
		"scaled":                                 {"", "", Options{Scale: map[string]int{"job": 3}}, "db=new:1 job=new:3 web=new:1"},
		"what exists is not recreated":           {"db=old", "db=old", Options{NoRecreate: true}, "db=old:1 job=new:1 web=new:1"},
		"but scaled":                             {"db=old", "db=old", Options{NoRecreate: true, Scale: map[string]int{"db": 2}}, "db=old:2 job=new:1 web=new:1"},
		"a run brings up what its service needs": {"", "", Options{Services: []string{"web"}, OneOff: "web", NoRecreate: true}, "db=new:1 job=new:0 web=new:0"},
	} {
		t.Run(name, func(t *testing.T) {
			observed := &Observed{Stack: "demo"}
			for _, s := range stack(c.containers).Services {
				observed.Containers = append(observed.Containers, Container{Service: s.Name, Replica: 1, Spec: *s})
			}
			var previous *spec.Stack
			if c.previous != "" {
				previous = stack(c.previous)
			}
			desired := stack("web=new db=new job=new")
			got, err := Applied(desired, previous, observed, c.opts)
			if err != nil {
				t.Fatal(err)
			}
			var words []string
			for _, name := range slices.Sorted(maps.Keys(got.Services)) {
				s := got.Services[name]
				color := s.Environment["COLOR"]
				words = append(words, fmt.Sprintf("%s=%s:%d", name, color, s.Replicas))
				if got.Configs[color] == nil && color != "there" {
					t.Errorf("the config of %s is not declared", name)
				}
			}
			if text := strings.Join(words, " "); text != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
			if desired.Services["web"].Replicas != 1 {
				t.Error("the desired state was changed")
			}
		})
	}
}
