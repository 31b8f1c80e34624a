package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stack-run/stack/e2e/host"
)

// Real stack files: each loads, or is refused for a reason that names its place in the file.
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
	for line := range strings.Lines(string(manifest)) {
		fields := strings.Split(line, "\t")
		folder := strings.ReplaceAll(fields[1], "/", "__")
		path := filepath.Join(folder, fields[2])
		if fields[0] == "id" {
			continue
		}
		r := h.Try("-f", filepath.Join(corpus, path), "config", "-q")
		switch {
		case r.Code == 0:
		case strings.Contains(r.Stderr, "panic"), !strings.Contains(r.Stderr, ":"):
			t.Errorf("%s: %v", path, r)
		default:
			t.Logf("%s is refused: %s", path, r.Stderr)
		}
	}
}
