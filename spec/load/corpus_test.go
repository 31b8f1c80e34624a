package load

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stack-run/stack/spec"
)

// corpus is the directory of real stack files, or "" where there is none.
func corpus() string {
	if dir := os.Getenv("STACK_CORPUS"); dir != "" {
		return dir
	}
	dir := filepath.Join("..", "..", "..", "shared", "corpus")
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST.tsv")); err != nil {
		return ""
	}
	return dir
}

// refusals are the corpus files that are refused, and all the reasons why.
var refusals = map[string][]string{
	"pub01": {gpus},
	"pub03": {builds}, "pub16": {builds}, "pub21": {builds}, "pub22": {builds},
	"pub27": {builds}, "pub28": {builds}, "pub30": {builds}, "pub31": {builds},
	"pub35": {builds, models, apiSocket},
	"pub36": {models, apiSocket},
	"pub37": {builds}, "pub39": {builds},
}

const (
	builds    = "image builds are not supported yet"
	gpus      = "GPUs and other reserved devices are not supported yet"
	models    = "AI models are not supported"
	apiSocket = "there is no Docker API to give access to"
)

// Every file of the corpus loads as its manifest says, or is refused for a reason that is listed.
func TestCorpus(t *testing.T) {
	dir := corpus()
	if dir == "" {
		t.Log("no corpus beside the repository: nothing to load")
		return
	}
	entries := manifest(t, dir)
	if len(entries) < 60 {
		t.Fatalf("only %d files in the manifest", len(entries))
	}
	for _, e := range entries {
		t.Run(e.id, func(t *testing.T) {
			o := e.prepare(t, dir)
			var reasons []string
			for _, d := range diagnosticsOf(t, o.WorkingDir, o) {
				if d.Severity == spec.Error {
					reasons = append(reasons, d.Summary)
					if d.Line == 0 || d.Path == "" {
						t.Errorf("no place for: %s", d)
					}
				}
			}
			slices.Sort(reasons)
			want := slices.Clone(refusals[e.id])
			slices.Sort(want)
			if got := slices.Compact(reasons); !slices.Equal(got, want) {
				t.Errorf("%s: refused for %q, want %q", e.path, got, want)
			}
		})
	}
}

type corpusEntry struct{ id, repo, path, recipe string }

func manifest(t *testing.T, dir string) []corpusEntry {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []corpusEntry
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) < 8 || fields[0] == "id" {
			continue
		}
		all = append(all, corpusEntry{fields[0], fields[1], fields[2], fields[7]})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

var fileFlag = regexp.MustCompile(`-f (\S+?)(?:;|\s|$)`)

// prepare follows the recipe in a copy: env templates become .env, missing env files are made, variables that must have
// a value get one. The files are loaded as `config` does, since nothing they are about is there.
func (e corpusEntry) prepare(t *testing.T, dir string) Options {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "repo")
	if err := os.CopyFS(copied, os.DirFS(filepath.Join(dir, strings.ReplaceAll(e.repo, "/", "__")))); err != nil {
		t.Fatal(err)
	}
	o := Options{WorkingDir: copied, Observing: true}
	for _, m := range fileFlag.FindAllStringSubmatch(e.recipe, -1) {
		o.Files = append(o.Files, m[1])
	}
	if len(o.Files) == 0 {
		t.Fatalf("no file in the recipe %q", e.recipe)
	}
	for _, template := range []string{"env.example", ".env.example"} {
		if content, err := os.ReadFile(filepath.Join(copied, template)); err == nil {
			if err := os.WriteFile(filepath.Join(copied, ".env"), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	o.Environ = e.missingVariables(t, o)
	return o
}

// missingVariables gives values to the variables that the files can't be loaded without.
func (e corpusEntry) missingVariables(t *testing.T, o Options) []string {
	t.Helper()
	variables, err := Variables(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	var env []string
	for _, v := range variables {
		if v.Required {
			env = append(env, v.Name+"=dummy")
		}
	}
	return env
}
