package load

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/schema"
	attribute "github.com/compose-spec/compose-go/v2/tree"

	"github.com/stack-run/stack/spec"
)

// rule is a step of the paths in the tables of attributes.go.
type rule struct {
	next    map[string]*rule // by key, with * and []
	verdict verdict
	what    string // of a refusal
	why     string // of a refusal the remedy, of what is ignored the reason
}

type verdict int

const (
	unknown verdict = iota // not in the tables
	honoured
	passed // without a word, and with all below it
	warned
	denied
)

func (r *rule) child(key string) *rule {
	if c, ok := r.next[key]; ok {
		return c
	}
	if key != "[]" {
		return r.next["*"]
	}
	return nil
}

func (r *rule) insert(path string) *rule {
	for _, step := range strings.Split(path, ".") {
		if r.next == nil {
			r.next = map[string]*rule{}
		}
		if r.next[step] == nil {
			r.next[step] = &rule{}
		}
		r = r.next[step]
	}
	return r
}

// rules are the tables as a tree, made at the first load.
var rules = sync.OnceValue(func() *rule {
	root := &rule{}
	for path := range strings.FieldsSeq(supported + own) {
		root.insert(path).verdict = honoured
	}
	for _, a := range ignored {
		r := root.insert(a.path)
		r.verdict, r.why = warned, a.why
	}
	for _, a := range refused {
		r := root.insert(a.path)
		r.verdict, r.what, r.why = denied, a.what, a.remedy
	}
	root.insert(buildPath).verdict = passed // checkBuild has the say
	jobRules(root)
	hookRules(root)
	return root
})

// known are all attributes of the specification, to tell the unsupported from the mistyped. Needed for errors only.
var known = sync.OnceValue(func() *rule {
	root := &rule{}
	for _, path := range schema.AttributePaths() {
		root.insert(string(path))
	}
	for path := range strings.FieldsSeq(own) {
		root.insert(path)
	}
	return root
})

// walker looks at every attribute written.
type walker struct {
	enabled  func(service string) bool
	findings spec.Diagnostics
}

// attributes checks every attribute written against the tables. Unsupported attributes of services that are not
// enabled do no harm and are passed over.
func (t *tree) attributes(enabled func(service string) bool) spec.Diagnostics {
	w := &walker{enabled: enabled}
	w.walk(t.root, rules(), known, nil)
	return w.findings
}

// walk descends with the tables, and with the whole specification for when the tables know nothing.
func (w *walker) walk(n *node, r *rule, all func() *rule, path []string) {
	switch n.kind {
	case sequence:
		items := r.child("[]")
		for i, item := range n.items {
			if item.kind != mapping {
				continue // the short form of an entry
			}
			if items == nil {
				continue // a list where the specification has none: not a question of support
			}
			w.walk(item, items, descend(all, "[]"), join(path, fmt.Sprint(i)))
		}
	case mapping:
		for _, key := range n.order {
			if strings.HasPrefix(key, "x-") && key != extensionKey && !userDefined(path) {
				continue
			}
			w.attribute(n.fields[key], key, r, all, path)
		}
	}
}

// userDefined tells whether the keys below the path are names, which may begin with x- like any other.
func userDefined(path []string) bool {
	return len(path) == 1 && slices.Contains(sections, path[0]) || len(path) > 2 && path[len(path)-1] == "depends_on"
}

func (w *walker) attribute(n *node, key string, parent *rule, all func() *rule, path []string) {
	r, here := parent.child(key), join(path, key)
	if len(here) == 2 && (here[0] == "services" || here[0] == "jobs") && !w.enabled(key) {
		return
	}
	verdict := unknown
	if r != nil {
		verdict = r.verdict
	}
	switch verdict {
	case honoured:
		w.walk(n, r, descend(all, key), here)
	case passed:
	case warned:
		w.report(n, spec.Warning, here, fmt.Sprintf("%s has no effect: %s", key, r.why), "")
	case denied:
		w.report(n, spec.Error, here, r.what, r.why)
	default:
		w.unsupported(n, key, here, all())
	}
}

func (w *walker) unsupported(n *node, key string, path []string, all *rule) {
	if all != nil && all.child(key) != nil {
		w.report(n, spec.Error, path, fmt.Sprintf("%s is not supported yet", key), "take it out")
		return
	}
	if all == nil || len(all.next) == 0 {
		return // the value should not be a mapping at all: the schema says so
	}
	remedy := didYouMean(key, slices.Collect(maps.Keys(all.next)))
	if remedy == "" {
		remedy = "take it out, or begin it with x- if it is a note of your own"
	}
	w.report(n, spec.Error, path, fmt.Sprintf("unknown attribute %q", key), remedy)
}

func (w *walker) report(n *node, severity spec.Severity, path []string, summary, remedy string) {
	w.findings = append(w.findings, n.diagnose(severity, path, summary, remedy))
}

// descend is a step in the whole specification, taken when somebody asks.
func descend(all func() *rule, key string) func() *rule {
	return func() *rule {
		r := all()
		if r == nil {
			return nil
		}
		return r.child(key)
	}
}

// declared are the paths of all tables in compose-go's form: what is ignored or refused is reported by the walk.
var declared = sync.OnceValue(func() []attribute.Path {
	var paths []attribute.Path
	var collect func(r *rule, path attribute.Path)
	collect = func(r *rule, path attribute.Path) {
		for step, next := range r.next {
			here := path.Next(step)
			if next.verdict != unknown {
				paths = append(paths, here)
			}
			if next.verdict == honoured || next.verdict == unknown {
				collect(next, here)
				continue
			}
			// Whatever is below has been judged with it.
			for _, p := range schema.AttributePaths() {
				if strings.HasPrefix(string(p), string(here)+".") {
					paths = append(paths, p)
				}
			}
		}
	}
	collect(rules(), attribute.NewPath())
	return paths
})

// unseen are the attributes that compose-go finds in its result and the tables don't have, but for those the walk has
// reported. There should be none: it is the net under the tree.
func (t *tree) unseen(found []loader.UnsupportedAttribute, reported spec.Diagnostics, enabled func(string) bool) spec.Diagnostics {
	var findings spec.Diagnostics
	for _, u := range found {
		path := u.Path.Parts()
		if len(path) > 1 && (path[0] == "services" || path[0] == "jobs") && !enabled(path[1]) {
			continue
		}
		written := pathString(slices.DeleteFunc(slices.Clone(path), func(step string) bool { return step == attribute.PathMatchList }))
		covered := slices.ContainsFunc(reported, func(d spec.Diagnostic) bool {
			return d.Severity == spec.Error && strings.HasPrefix(written, listIndex.ReplaceAllString(d.Path, ""))
		})
		if !covered {
			findings = append(findings, t.diagnose(spec.Error, path, fmt.Sprintf("%s is not supported yet", last(path)), "take it out"))
		}
	}
	return findings
}

var listIndex = regexp.MustCompile(`\[\d+\]`)
