package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

// Real stack files: each loads as its manifest says, or is refused for a reason that names its place in the file.
func TestRealStackFilesLoadOrAreRefusedForAReason(t *testing.T) {
	corpus := host.Corpus()
	if corpus == "" {
		t.Log("no corpus beside the repository")
		return
	}
	h := start(t, host.NoRegistry())
	manifest, err := os.ReadFile(filepath.Join(corpus, "MANIFEST.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	place := regexp.MustCompile(`\.ya?ml:\d+:\d+: `)
	loaded := 0
	for line := range strings.Lines(string(manifest)) {
		fields := strings.Split(line, "\t") // id, repository, path, commit, licence, bytes, sha256, recipe, ...
		if fields[0] == "id" {
			continue
		}
		r := configure(h, filepath.Join(corpus, strings.ReplaceAll(fields[1], "/", "__")), fields[7])
		switch {
		case r.Code == 0:
			loaded++
		case strings.Contains(r.Stderr, "panic"), !place.MatchString(r.Stderr):
			t.Errorf("%s %s: %v", fields[1], fields[2], r)
		default:
			t.Logf("%s %s is refused:", fields[1], fields[2])
			for message := range strings.Lines(r.Stderr) {
				if message, ok := strings.CutPrefix(message, "error: "); ok {
					t.Log("  ", strings.TrimSpace(strings.TrimPrefix(message, h.Dir)))
				}
			}
		}
	}
	t.Logf("%d files load", loaded)
}

var (
	unset    = regexp.MustCompile(`the variable "([A-Za-z0-9_]+)" (?:must be|is not) set`)
	noFile   = regexp.MustCompile(`env_file\S* can't read the file (\S+):`)
	fileFlag = regexp.MustCompile(`-f ([^ ;]+)`)
	copied   = regexp.MustCompile(`copy ([^ ;]+) to ([^ ;]+)`)
)

// configure runs `stack config` on a copy of a project as a step of its manifest's recipe says, such as
// "-f compose.yml; copy .env.example to .env".
func configure(h *host.Host, project, recipe string) host.Result {
	h.T.Helper()
	dir, err := os.MkdirTemp(h.Dir, "")
	if err != nil {
		h.T.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(project)); err != nil {
		h.T.Fatal(err)
	}
	args := []string{"stack"}
	for _, m := range fileFlag.FindAllStringSubmatch(recipe, -1) {
		args = append(args, "-f", filepath.Join(dir, m[1]))
	}
	for _, m := range copied.FindAllStringSubmatch(recipe, -1) {
		content, err := os.ReadFile(filepath.Join(dir, m[1]))
		if err != nil {
			h.T.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, m[2]), content, 0o644); err != nil {
			h.T.Fatal(err)
		}
	}
	cmd := h.Command(append(args, "config", "-q")...)
	r := h.Run(cmd)
	env := cmd.Env
	if strings.Contains(recipe, "give values to the unset variables") {
		for _, m := range unset.FindAllStringSubmatch(r.Stderr, -1) {
			env = append(env, m[1]+"=1")
		}
	}
	if strings.Contains(recipe, "create the missing env_file") {
		for _, m := range noFile.FindAllStringSubmatch(r.Stderr, -1) {
			if err := os.WriteFile(m[1], nil, 0o644); err != nil {
				h.T.Fatal(err)
			}
		}
	}
	again := h.Command(append(args, "config", "-q")...)
	again.Env = env
	return h.Run(again)
}
