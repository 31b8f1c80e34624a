package rules

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each test and golden file that planner/BEHAVIOURS.md names as a proof is there.
func TestEachBehaviourNamesProofsThatAreThere(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "planner", "BEHAVIOURS.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz)\\w+|[a-z-]+\\.txt)`").FindAllSubmatch(page, -1) {
		name := string(m[1])
		named++
		if strings.HasSuffix(name, ".txt") {
			if _, err := os.Stat(filepath.Join(root, "planner", "testdata", name)); err != nil {
				t.Error(err)
			}
		} else if !tests[name] {
			t.Errorf("no test is called %s", name)
		}
	}
	if named == 0 {
		t.Error("it names no proof")
	}
}
