// Package ignore tells which files a watch rule is not about: what .dockerignore and the rule's own patterns say, what
// editors leave lying about for a moment, and .git.
package ignore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// List is patterns as in .dockerignore, relative to a folder.
type List struct {
	Dir      string   `json:"dir"`
	Patterns []string `json:"patterns"`
}

// Dockerignore reads the patterns of a build's context: <dockerfile>.dockerignore, or else .dockerignore. Without either,
// and without a context, the list is empty.
func Dockerignore(context, dockerfile string) (List, error) {
	list := List{Dir: context}
	if context == "" {
		return list, nil
	}
	if dockerfile == "" {
		dockerfile = "Dockerfile"
	}
	if !filepath.IsAbs(dockerfile) {
		dockerfile = filepath.Join(context, dockerfile)
	}
	for _, name := range []string{dockerfile + ".dockerignore", filepath.Join(context, ".dockerignore")} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return list, err
		}
		defer f.Close()
		if list.Patterns, err = ignorefile.ReadAll(f); err != nil {
			return list, fmt.Errorf("%s: %w", name, err)
		}
		return list, nil
	}
	return list, nil
}

// Matcher tells of paths below a folder whether they are ignored. It is safe for concurrent use.
type Matcher struct {
	base  string
	mu    sync.Mutex
	lists []*list
}

// list matches one List. What its patterns say of a folder is kept, as all below it inherit it.
type list struct {
	dir     string
	matcher *patternmatcher.PatternMatcher
	folders map[string]patternmatcher.MatchInfo
}

// New makes a matcher for what is below base. A path is ignored when one of the lists ignores it.
func New(base string, lists ...List) (*Matcher, error) {
	m := &Matcher{base: base}
	for _, l := range lists {
		if len(l.Patterns) == 0 {
			continue
		}
		matcher, err := patternmatcher.New(relative(l.Patterns))
		if err != nil {
			return nil, fmt.Errorf("patterns %q: %w", l.Patterns, err)
		}
		m.lists = append(m.lists, &list{dir: l.Dir, matcher: matcher, folders: map[string]patternmatcher.MatchInfo{}})
	}
	return m, nil
}

// relative takes the leading slash off patterns: it stands for the folder that they are relative to.
func relative(patterns []string) []string {
	var out []string
	for _, p := range patterns {
		p = strings.TrimSpace(p)
		exclusion := ""
		if strings.HasPrefix(p, "!") {
			exclusion, p = "!", p[1:]
		}
		if p = strings.TrimLeft(filepath.Clean(p), "/"); p != "" && p != "." {
			out = append(out, exclusion+p)
		}
	}
	return out
}

// Ignored tells whether an absolute path below the matcher's base is ignored.
func (m *Matcher) Ignored(path string) bool {
	return m.passing(path) || m.matches(path)
}

// Whole tells whether a folder is ignored with all that may ever be in it, so that nobody need look into it.
func (m *Matcher) Whole(dir string) bool {
	if m.passing(dir) {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lists {
		if !l.matcher.Exclusions() && l.matches(dir) {
			return true
		}
	}
	return false
}

// Matches tells whether one of the lists has a pattern for the path: of a matcher made for `include`.
func (m *Matcher) Matches(path string) bool { return m.matches(path) }

func (m *Matcher) matches(path string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lists {
		if l.matches(path) {
			return true
		}
	}
	return false
}

func (l *list) matches(path string) bool {
	rel, err := filepath.Rel(l.dir, path)
	if err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, "../") {
		return false
	}
	matched, _, err := l.matcher.MatchesUsingParentResults(rel, l.parent(filepath.Dir(rel)))
	return err == nil && matched // patterns were checked when they were compiled
}

func (l *list) parent(rel string) patternmatcher.MatchInfo {
	if rel == "." {
		return patternmatcher.MatchInfo{}
	}
	info, ok := l.folders[rel]
	if !ok {
		_, info, _ = l.matcher.MatchesUsingParentResults(rel, l.parent(filepath.Dir(rel)))
		l.folders[rel] = info
	}
	return info
}

// passing tells whether a path is, or is in, what editors make for a moment, or version control for itself. The list is
// Compose's.
func (m *Matcher) passing(path string) bool {
	rel, err := filepath.Rel(m.base, path)
	if err != nil || rel == "." {
		return false
	}
	for name := range strings.SplitSeq(rel, "/") {
		switch {
		case name == ".git", name == ".idea", name == "4913",
			strings.HasSuffix(name, "~"), strings.HasPrefix(name, ".#"),
			strings.HasSuffix(name, "___jb_old___"), strings.HasSuffix(name, "___jb_tmp___"),
			strings.HasPrefix(name, ".") && (strings.HasSuffix(name, ".swp") || strings.HasSuffix(name, ".swx") || strings.HasSuffix(name, ".swo") || strings.HasSuffix(name, ".swn")):
			return true
		}
	}
	return false
}
