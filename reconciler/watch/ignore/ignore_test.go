package ignore

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/patternmatcher"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		patterns []string
		path     string
		want     bool
	}{
		{nil, "a.go", false},
		{[]string{"node_modules/"}, "node_modules", true},
		{[]string{"node_modules/"}, "node_modules/left-pad/index.js", true},
		{[]string{"node_modules"}, "web/node_modules/x", false},
		{[]string{"**/node_modules"}, "web/node_modules/x", true},
		{[]string{"/dist"}, "dist/app.js", true},
		{[]string{"*.log"}, "a.log", true},
		{[]string{"*.log"}, "logs/a.log", false},
		{[]string{"*"}, "a/b/c", true},
		{[]string{"*", "!src"}, "src/main.go", false},
		{[]string{"*", "!src", "src/*.md"}, "src/README.md", true},
		{[]string{"docs", "!docs/keep.md"}, "docs/keep.md", false},
		{[]string{"docs", "!docs/keep.md"}, "docs/other.md", true},
		{[]string{"  spaced  "}, "spaced", true},
		{[]string{"./x"}, "x", true},
		{nil, ".git/HEAD", true},
		{nil, "sub/.git", true},
		{nil, ".gitignore", false},
		{nil, ".main.go.swp", true},
		{nil, "movie.swf", false},
		{nil, "main.go~", true},
		{nil, "4913", true},
		{nil, ".#main.go", true},
		{nil, "main.go___jb_tmp___", true},
		{nil, ".idea/workspace.xml", true},
	} {
		m, err := New("/src", List{"/src", c.patterns})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time what was kept of folders is used
			if got := m.Ignored("/src/" + c.path); got != c.want {
				t.Errorf("%q ignore %s: %v", c.patterns, c.path, got)
			}
		}
	}
}

func TestOneListDoesNotTakeBackWhatAnotherIgnores(t *testing.T) {
	m, err := New("/src/web", List{"/src", []string{"web/secret"}}, List{"/src/web", []string{"*.tmp", "!secret"}})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"/src/web/secret": true, "/src/web/a.tmp": true, "/src/web/a": false, "/elsewhere/a.tmp": false} {
		if got := m.Ignored(path); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
	if m.Whole("/src/web") || m.Whole("/src/web/a.tmp") || !m.Whole("/src/web/secret") {
		t.Error("a folder is looked into, or not, in spite of its patterns")
	}
	// The place of the project counts for nothing.
	if m, _ = New("/home/me~/.git/src"); m.Ignored("/home/me~/.git/src/main.go") {
		t.Error("ignored by where the project lies")
	}
}

func TestABrokenPatternIsRefused(t *testing.T) {
	if _, err := New("/src", List{"/src", []string{"[a"}}); err == nil {
		t.Error("accepted")
	}
}

func TestDockerignoreOfTheDockerfileComesFirst(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func() string {
		l, err := Dockerignore(dir, "web.Dockerfile")
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Patterns) == 0 {
			return ""
		}
		return l.Patterns[0]
	}
	if got := read(); got != "" {
		t.Errorf("without a file: %q", got)
	}
	write(".dockerignore", "# a comment\n\n/a\n")
	if got := read(); got != "a" {
		t.Errorf("%q", got)
	}
	write("web.Dockerfile.dockerignore", "b\n")
	if got := read(); got != "b" {
		t.Errorf("%q", got)
	}
}

// What is kept of folders changes no answer: the library alone, led down from the top for each path anew as a build does
// it, says the same.
func FuzzFoldersAreRememberedRightly(f *testing.F) {
	f.Add("a/*", "!a/b", "a/b/c", "a/b")
	f.Add("**/x", "!**/y/x", "a/y/x/z", "a/y/z")
	f.Add("*", "!*.go", "d/main.go", "d/e/f.go")
	f.Fuzz(func(t *testing.T, one, two, first, second string) {
		patterns := []string{one, two}
		m, err := New("/src", List{"/src", patterns})
		plain, plainErr := patternmatcher.New(relative(patterns))
		if (err == nil) != (plainErr == nil) {
			t.Fatalf("%v and %v", err, plainErr)
		}
		if err != nil {
			return
		}
		for _, path := range []string{first, second, first} {
			path = filepath.Clean("/" + path)[1:]
			if path == "" {
				continue
			}
			var info patternmatcher.MatchInfo
			var want bool
			for i, c := range path + "/" {
				if c == '/' {
					if want, info, err = plain.MatchesUsingParentResults(path[:i], info); err != nil {
						return
					}
				}
			}
			if got := m.Matches("/src/" + path); got != want {
				t.Fatalf("%q match %q: %v, alone %v", patterns, path, got, want)
			}
		}
	})
}
