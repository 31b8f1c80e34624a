package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Diff lists field by field, sorted by path, what differs between two versions of a service; either may be nil. The
// position in the file is no difference. A changed secret or config shows as "content", never with what is in it.
func Diff(old, new *Service) []Change { return diffTrees(diffTree(old), diffTree(new)) }

func diffTrees(old, new any) []Change {
	var d differ
	d.compare("", old, new)
	slices.SortStableFunc(d.changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return d.changes
}

// diffTree is the service as JSON has it, with the lists of files turned into maps so that a path names the file.
func diffTree(s *Service) any {
	if s == nil {
		return map[string]any{}
	}
	return fileTree(mustJSON(s))
}

func fileTree(data []byte) any {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // sizes and durations are beyond a float's precision
	tree := map[string]any{}
	if err := decoder.Decode(&tree); err != nil {
		panic(fmt.Sprintf("spec: decode what was just encoded: %v", err))
	}
	keyFiles(tree)
	return tree
}

// keyFiles makes maps of a service's secrets and configs, and of those of its pre_start hooks.
func keyFiles(tree map[string]any) {
	delete(tree, "position")
	if hooks, ok := tree[PreStart].([]any); ok {
		for _, h := range hooks {
			keyFiles(h.(map[string]any))
		}
	}
	for _, list := range []string{"secrets", "configs"} {
		if mounts, ok := tree[list].([]any); ok {
			tree[list] = bySource(mounts)
		}
	}
}

// bySource keys file mounts by their source and by their target where one source is mounted twice. Contents are
// replaced by a digest under a name that says what it is.
func bySource(mounts []any) map[string]any {
	keyed := make(map[string]any, len(mounts))
	for _, m := range mounts {
		mount := m.(map[string]any)
		if digest, ok := mount["digest"]; ok {
			mount[contentKey] = digest
			delete(mount, "digest")
		}
		key := mount["source"].(string)
		if _, taken := keyed[key]; taken {
			key += "@" + mount["target"].(string)
		}
		delete(mount, "source")
		keyed[key] = mount
	}
	return keyed
}

const contentKey = "content"

type differ struct {
	changes []Change
}

func (d *differ) compare(path string, old, new any) {
	switch o := old.(type) {
	case map[string]any:
		if n, ok := new.(map[string]any); ok {
			d.compareMaps(path, o, n)
			return
		}
	case []any:
		if n, ok := new.([]any); ok {
			d.compareLists(path, o, n)
			return
		}
	}
	if !equal(old, new) {
		d.changes = append(d.changes, Change{Path: path, Old: show(path, old), New: show(path, new)})
	}
}

func (d *differ) compareMaps(path string, old, new map[string]any) {
	keys := maps.Clone(old)
	maps.Copy(keys, new)
	for key := range keys {
		next := key
		if path != "" {
			next = path + "." + key
		}
		o, n := old[key], new[key]
		// A mapping on one side only shows its fields one by one: each is something that came or went.
		if _, ok := o.(map[string]any); ok && n == nil {
			n = map[string]any{}
		}
		if _, ok := n.(map[string]any); ok && o == nil {
			o = map[string]any{}
		}
		before := len(d.changes)
		d.compare(next, o, n)
		_, had := old[key]
		_, has := new[key]
		if path == "networks" && had != has && len(d.changes) == before {
			d.changes = append(d.changes, membership(next, has)) // nothing but the name on one side
		}
	}
}

// membership is the change of something that has no fields of its own.
func membership(path string, has bool) Change {
	if has {
		return Change{Path: path, New: "{}"}
	}
	return Change{Path: path, Old: "{}"}
}

// compareLists shows a list of scalars (a command) as a whole, and of a list of mappings only the entries that
// differ: those equal on both sides are passed over wherever they stand, the rest are paired in order.
func (d *differ) compareLists(path string, old, new []any) {
	if equal(old, new) {
		return
	}
	if !allMappings(old) || !allMappings(new) {
		d.changes = append(d.changes, Change{Path: path, Old: show(path, old), New: show(path, new)})
		return
	}
	gone, came := unmatched(old, new), unmatched(new, old)
	if len(gone) == 0 && len(came) == 0 {
		d.changes = append(d.changes, Change{Path: path, Old: show(path, old), New: show(path, new)})
		return
	}
	for i := range max(len(gone), len(came)) {
		switch {
		case i < len(gone) && i < len(came):
			d.compare(fmt.Sprintf("%s[%d]", path, came[i]), old[gone[i]], new[came[i]])
		case i < len(gone):
			entry := fmt.Sprintf("%s[%d]", path, gone[i])
			d.changes = append(d.changes, Change{Path: entry, Old: show(entry, old[gone[i]])})
		default:
			entry := fmt.Sprintf("%s[%d]", path, came[i])
			d.changes = append(d.changes, Change{Path: entry, New: show(entry, new[came[i]])})
		}
	}
}

func allMappings(list []any) bool {
	for _, e := range list {
		if _, ok := e.(map[string]any); !ok {
			return false
		}
	}
	return true
}

// unmatched are the indexes of the entries of list that have no equal of their own in other.
func unmatched(list, other []any) []int {
	left := map[string]int{}
	for _, e := range other {
		left[string(mustJSON(e))]++
	}
	var rest []int
	for i, e := range list {
		key := string(mustJSON(e))
		if left[key] > 0 {
			left[key]--
			continue
		}
		rest = append(rest, i)
	}
	return rest
}

func equal(a, b any) bool {
	return bytes.Equal(mustJSON(a), mustJSON(b))
}

// ofHook is how the paths of what a pre_start hook has begin; the rest is as for a service.
var ofHook = regexp.MustCompile(`^pre_start\[\d+\]\.`)

// show renders a value as JSON. A config's content shows as a short digest, a secret's not even so: the digest of a
// weak password gives the password away.
func show(path string, v any) string {
	if v == nil {
		return ""
	}
	path = ofHook.ReplaceAllString(path, "")
	if strings.HasPrefix(path, "secret_environment.") {
		return `"(secret)"`
	}
	if strings.HasSuffix(path, "."+contentKey) {
		digest := strings.TrimPrefix(fmt.Sprint(v), "sha256:")
		switch {
		case strings.HasPrefix(path, "secrets."):
			return `"(secret)"`
		case strings.HasPrefix(path, "configs."):
			return string(mustJSON(digest[:min(12, len(digest))]))
		}
	}
	return string(mustJSON(v))
}
