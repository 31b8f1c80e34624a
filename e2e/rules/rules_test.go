// Package rules checks which package may import which: the rooms of ARCHITECTURE.md, each rule with its reason.
package rules

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/stack-run/stack/"

// A rule forbids packages (from) to import others (never), directly or, with all, through whatever they import.
// Patterns are path.Match patterns of import paths, where a trailing /... takes in everything below; a path that begins
// with ./ is one of this module.
type rule struct {
	from   []string
	except []string // of from
	never  []string
	but    []string // of never
	all    bool
	reason string
}

// What only those who do the work may link.
var (
	heavy     = []string{"github.com/compose-spec/compose-go/...", "github.com/containerd/containerd/...", "github.com/google/go-containerregistry/..."}
	hostTools = []string{"github.com/opencontainers/runc/...", "github.com/opencontainers/cgroups/...", "github.com/vishvananda/netlink/...",
		"github.com/google/nftables/...", "github.com/containernetworking/...", "golang.org/x/sys/unix"}
	hostStd = []string{"os/exec", "net", "net/http", "syscall"}
)

var rules = []rule{
	{from: []string{"./spec"}, never: []string{"./..."},
		reason: "spec is the vocabulary that every room speaks; it can't depend on a speaker"},
	{from: []string{"./spec/..."}, never: []string{"./..."}, but: []string{"./spec/..."},
		reason: "spec is the vocabulary that every room speaks; it can't depend on a speaker"},
	{from: []string{"./spec"}, never: append(slices.Concat(heavy, hostTools), "os", "os/exec", "net", "net/http"),
		reason: "the desired state is plain data: the shim and the command read it without touching the host or loading files"},
	{from: []string{"./spec", "./planner"}, all: true, never: heavy,
		reason: "the desired state and the planner stay small enough for every program to link"},
	{from: []string{"./spec/..."}, except: []string{"./spec/cache"}, never: slices.Concat(hostTools, []string{"os/exec", "net/http"}),
		reason: "loading a stack file reads files and changes nothing"},
	{from: []string{"./planner/..."}, never: []string{"./..."}, but: []string{"./spec", "./planner/..."},
		reason: "the planner compares desired and observed state and knows no more"},
	{from: []string{"./planner/..."}, never: slices.Concat(hostTools, hostStd, []string{"os", "io/fs", "context", "sync", "math/rand", "math/rand/v2", "log", "*.*/..."}),
		but:    []string{"./..."}, // the rule before
		reason: "planning is a pure function: no I/O, no concurrency, no chance, no module but the standard library"},
	{from: []string{"./reconciler/..."}, never: slices.Concat(heavy, hostTools),
		reason: "the reconciler decides when; how a container, network or volume is made is their rooms' business"},
	{from: []string{"./runtime/...", "./netdriver/...", "./voldriver/..."}, never: []string{"./planner/...", "./reconciler/...", "./cmd/..."},
		reason: "mechanism knows no policy"},
	{from: []string{"./runtime/..."}, except: []string{"./runtime/shim/...", "./runtime/runtimetest"}, never: []string{"./netdriver/...", "./voldriver/..."}, but: []string{"./voldriver", "./netdriver", "./netdriver/dns", "./netdriver/loopback6"},
		reason: "the three kinds of resources are made apart and meet in the daemon"},
	{from: []string{"./netdriver/..."}, never: []string{"./runtime/...", "./voldriver/..."},
		reason: "the three kinds of resources are made apart and meet in the daemon"},
	{from: []string{"./voldriver/..."}, never: []string{"./runtime/...", "./netdriver/..."},
		reason: "the three kinds of resources are made apart and meet in the daemon"},
	{from: []string{"./..."}, except: []string{"./cmd/...", "./e2e/..."}, never: []string{"./cmd/..."},
		reason: "commands wire the rooms together; no room knows its commands"},
	{from: []string{"./..."}, except: []string{"./e2e/..."}, never: []string{"./e2e/..."},
		reason: "the product does not need its tests"},
	{from: []string{"./cmd/stack-shim"}, all: true, never: slices.Concat(heavy, []string{"net/http", "crypto/tls", "github.com/vishvananda/netlink/nl/...",
		"github.com/google/nftables/...", "./spec/load/...", "./reconciler/...", "./runtime/image"}),
		but:    []string{"github.com/vishvananda/netlink/..."},
		reason: "every container's init is this program: each MiB of it is paid at each start, in time and against the container's memory limit"},
	{from: []string{"./netdriver/dns"}, all: true, never: []string{"github.com/vishvananda/netlink/...", "github.com/google/nftables/...", "net/http"},
		reason: "the shim serves DNS, and has to stay small"},
	{from: []string{"./cmd/internal/client", "./cmd/internal/ui", "./cmd/internal/hostconfig", "./cmd/internal/api"}, all: true, never: heavy,
		reason: "a command that changes nothing ends in milliseconds: what it links it must initialise"},
}

func TestEveryImportKeepsTheRules(t *testing.T) {
	packages := list(t)
	for _, r := range rules {
		for _, name := range slices.Sorted(maps.Keys(packages)) {
			pkg := packages[name]
			if pkg.Module == nil || !strings.HasPrefix(name, module) || !matches(name, r.from) || matches(name, r.except) {
				continue
			}
			imported := pkg.Imports
			if r.all {
				imported = pkg.Deps
			}
			for _, i := range imported {
				if i != name && matches(i, r.never) && !matches(i, r.but) {
					t.Errorf("%s imports %s, but %s", strings.TrimPrefix(name, module), strings.TrimPrefix(i, module), r.reason)
				}
			}
		}
	}
}

func TestEveryFolderIsARoom(t *testing.T) {
	rooms := []string{"cmd", "spec", "planner", "reconciler", "runtime", "netdriver", "voldriver", "examples", "e2e"}
	for name, pkg := range list(t) {
		rest, own := strings.CutPrefix(name, module)
		if !own {
			continue
		}
		room, _, _ := strings.Cut(rest, "/")
		if !slices.Contains(rooms, room) {
			t.Errorf("%s is in none of the rooms %v", rest, rooms)
		}
		for _, vague := range []string{"util", "utils", "common", "helper", "helpers", "misc", "lib", "shared"} {
			if pkg.Name == vague || path.Base(name) == vague {
				t.Errorf("%s: a package is named after what it does, not %q", rest, vague)
			}
		}
	}
}

// Each rule must be able to fail: what it forbids is recognised, and what it is about exists.
func TestEveryRuleIsAboutSomething(t *testing.T) {
	packages := list(t)
	for _, r := range rules {
		for _, from := range r.from {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(packages)), func(name string) bool { return matches(name, []string{from}) }) {
				t.Errorf("no package matches %s", from)
			}
		}
	}
	for _, c := range []struct {
		name, pattern string
		want          bool
	}{
		{module + "spec", "./spec", true},
		{module + "spec/load", "./spec", false},
		{module + "spec/load", "./spec/...", true},
		{module + "spec", "./spec/...", true},
		{module + "specific", "./spec/...", false},
		{"github.com/containerd/containerd/v2/core/mount", "github.com/containerd/containerd/...", true},
		{"example.org/x", "*.*/...", true},
		{"encoding/json", "*.*/...", false},
		{"net/http", "net", false},
	} {
		if got := matches(c.name, []string{c.pattern}); got != c.want {
			t.Errorf("%s matches %s: %v", c.name, c.pattern, got)
		}
	}
}

type pkg struct {
	ImportPath, Name string
	Imports, Deps    []string
	Module           *struct{ Path string }
}

// list asks the go command for every package of the module with what it imports, as the programs are built.
func list(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-tags", "seccomp", "-json=ImportPath,Name,Imports,Deps,Module", module+"...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string]pkg{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}

func matches(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if own, ok := strings.CutPrefix(pattern, "./"); ok {
			pattern = module + own
		}
		below, deep := strings.CutSuffix(pattern, "/...")
		if !deep {
			return name == pattern
		}
		if below+"/" == module {
			return strings.HasPrefix(name, module)
		}
		parts := strings.SplitAfterN(name, "/", strings.Count(below, "/")+2)
		head := strings.TrimSuffix(strings.Join(parts[:min(len(parts), strings.Count(below, "/")+1)], ""), "/")
		ok, _ := path.Match(below, head)
		return ok
	})
}
