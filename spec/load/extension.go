package load

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// extensionKey is the one extension that means something to Stack. Its attributes stand in the table of supported ones,
// so a mistyped one is refused like any other.
const extensionKey = "x-stack"

// stackPolicy reads the x-stack of the whole stack.
func (c *converter) stackPolicy() spec.StackPolicy {
	x := c.extension(nil, c.project.Extensions)
	return spec.StackPolicy{
		Reconcile: x.word("reconcile", spec.Repair, spec.Observe),
		History:   x.count("history"),
	}
}

// policy reads the x-stack of a service and completes it by the stack's.
func (c *converter) policy(at []string, s types.ServiceConfig) *spec.Policy {
	stack, own := c.extension(nil, c.project.Extensions), c.extension(at, s.Extensions)
	p := spec.Policy{
		Rollout:   stack.word("rollout", spec.RolloutAuto, "order"),
		Unhealthy: stack.unhealthy(),
		DependsOn: own.dependsOn(c.project.Name),
		Build:     own.text("build"),
	}
	if own.has("rollout") {
		p.Rollout = own.word("rollout", spec.RolloutAuto, "order")
	}
	if p.Rollout == "order" { // a service that goes by its update_config in a stack of auto
		p.Rollout = ""
	}
	if own.has("unhealthy") {
		p.Unhealthy = own.unhealthy()
	}
	if p.Rollout == "" && p.Unhealthy == nil && len(p.DependsOn) == 0 && p.Build == "" {
		return nil
	}
	return &p
}

// extension is one x-stack with the place where it was written.
type extension struct {
	c      *converter
	path   []string
	values map[string]any
}

func (c *converter) extension(at []string, all types.Extensions) extension {
	x := extension{c: c, path: join(at, extensionKey)}
	switch v := all[extensionKey].(type) {
	case nil:
	case map[string]any:
		x.values = v
	default:
		x.refuse(nil, "write it as a mapping, such as {rollout: auto}", "%s must be a mapping", extensionKey)
	}
	return x
}

func (x extension) has(key string) bool { return x.values[key] != nil }

// refuse reports each mistake once: the stack's x-stack is read for every service.
func (x extension) refuse(below []string, remedy, format string, args ...any) {
	d := x.c.tree.diagnose(spec.Error, join(x.path, below...), fmt.Sprintf(format, args...), remedy)
	if !slices.Contains(*x.c.findings, d) {
		*x.c.findings = append(*x.c.findings, d)
	}
}

// word is one of some words; empty where nothing is said.
func (x extension) word(key string, words ...string) string {
	if !x.has(key) {
		return ""
	}
	word, ok := x.values[key].(string)
	if !ok || !slices.Contains(words, word) {
		x.refuse([]string{key}, "use "+strings.Join(words, " or "), "invalid %s %q", key, fmt.Sprint(x.values[key]))
		return ""
	}
	return word
}

func (x extension) text(key string) string {
	if !x.has(key) {
		return ""
	}
	text, ok := x.values[key].(string)
	if !ok || strings.TrimSpace(text) == "" {
		x.refuse([]string{key}, "write it as text", "%s must be text", key)
	}
	return text
}

// count is a whole number from 1 on; 0 where nothing is said.
func (x extension) count(key string) int {
	if !x.has(key) {
		return 0
	}
	n, ok := wholeNumber(x.values[key])
	if !ok || n < 1 {
		x.refuse([]string{key}, "write a number from 1 on", "invalid %s %q", key, fmt.Sprint(x.values[key]))
		return 0
	}
	return n
}

// wholeNumber is a number as the YAML and the JSON of a stack file give it.
func wholeNumber(v any) (int, bool) {
	switch n := v.(type) {
	case int:
		return n, true
	case int64:
		return int(n), true
	case uint64:
		return int(n), n <= math.MaxInt32
	case float64:
		return int(n), n == math.Trunc(n) && math.Abs(n) <= math.MaxInt32
	}
	return 0, false
}

func (x extension) duration(key string) time.Duration {
	if !x.has(key) {
		return 0
	}
	text, _ := x.values[key].(string)
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		x.refuse([]string{key}, "write a duration such as 10s or 1m30s", "invalid %s %q", key, fmt.Sprint(x.values[key]))
		return 0
	}
	return d
}

// sub is a mapping within the extension.
func (x extension) sub(key string) (extension, bool) {
	values, ok := x.values[key].(map[string]any)
	return extension{c: x.c, path: join(x.path, key), values: values}, ok
}

const unhealthyRemedy = "write restart, ignore, or {max_attempts: 5, delay: 10s}"

// unhealthy is `restart`, `ignore`, or a mapping with the restart's bounds.
func (x extension) unhealthy() *spec.UnhealthyPolicy {
	switch v := x.values["unhealthy"].(type) {
	case nil:
		return nil
	case string:
		switch v {
		case "restart":
			return &spec.UnhealthyPolicy{}
		case "ignore":
			return nil
		}
	case map[string]any:
		own, _ := x.sub("unhealthy")
		return &spec.UnhealthyPolicy{MaxAttempts: own.count("max_attempts"), Delay: own.duration("delay")}
	}
	x.refuse([]string{"unhealthy"}, unhealthyRemedy, "invalid unhealthy %q", fmt.Sprint(x.values["unhealthy"]))
	return nil
}

var conditions = []string{spec.Started, spec.Healthy, spec.CompletedSuccessfully}

// dependsOn are services of other stacks: a list of "stack/service", or a mapping with conditions.
func (x extension) dependsOn(self string) map[string]spec.Dependency {
	all := map[string]spec.Dependency{}
	add := func(name string, path []string, d spec.Dependency) {
		stack, service, ok := strings.Cut(name, "/")
		switch {
		case !ok || stack == "" || service == "" || strings.Contains(service, "/"):
			x.refuse(path, "write stack/service", "%q does not name a service of another stack", name)
		case stack == self:
			x.refuse(path, "use the service's own depends_on", "%s is a service of this stack", service)
		default:
			all[name] = d
		}
	}
	switch v := x.values["depends_on"].(type) {
	case nil:
	case []any:
		for i, entry := range v {
			add(fmt.Sprint(entry), []string{"depends_on", fmt.Sprint(i)}, spec.Dependency{Condition: spec.Started, Required: true})
		}
	case map[string]any:
		deps, _ := x.sub("depends_on")
		for _, name := range slices.Sorted(maps.Keys(v)) {
			d := spec.Dependency{Condition: spec.Started, Required: true}
			if v[name] != nil {
				own, ok := deps.sub(name)
				if !ok {
					deps.refuse([]string{name}, "write {condition: service_healthy}", "what is asked of %s must be a mapping", name)
					continue
				}
				if own.has("condition") {
					d.Condition = own.word("condition", conditions...)
				}
				d.Required = own.flag("required", true)
			}
			add(name, []string{"depends_on", name}, d)
		}
	default:
		x.refuse([]string{"depends_on"}, "write a list of stack/service", "invalid depends_on %q", fmt.Sprint(v))
	}
	if len(all) == 0 {
		return nil
	}
	return all
}

func (x extension) flag(key string, otherwise bool) bool {
	if !x.has(key) {
		return otherwise
	}
	b, ok := x.values[key].(bool)
	if !ok {
		x.refuse([]string{key}, "write true or false", "invalid %s %q", key, fmt.Sprint(x.values[key]))
		return otherwise
	}
	return b
}
