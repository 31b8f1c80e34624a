package planner

import (
	"testing"

	"github.com/stack-run/stack/spec"
)

// What a config's file holds may be anybody's: it must not steer the terminal that shows what changed in it.
func TestDifferencesAreColouredAndCantSteerATerminal(t *testing.T) {
	differences := []spec.Difference{{Address: "config.site", Verb: spec.Changed, Changes: []spec.Change{
		{Path: "content", Old: `"a"`, New: `"b"`, Text: "--- x\n+++ x\n@@ -1,2 +1,2 @@\n same\x1b[2J\n-old\n+new\tend\n"},
		{Path: "file", Old: `"/a"`, New: `"/b"`},
		{Path: "labels.TOKEN", Old: `"(redacted)"`, New: `"(redacted)"`},
	}}}
	want := "\x1b[33m  ~\x1b[0m \x1b[1mconfig.site\x1b[0m  changed\n" +
		"      content:\n" +
		"        \x1b[36m@@ -1,2 +1,2 @@\x1b[0m\n" +
		"        \x1b[2m same\\x1b[2J\x1b[0m\n" +
		"        \x1b[31m-old\x1b[0m\n" +
		"        \x1b[32m+new    end\x1b[0m\n" +
		"      \x1b[31m- file: \"/a\"\x1b[0m\n" +
		"      \x1b[32m+ file: \"/b\"\x1b[0m\n" +
		"      \x1b[33m~ labels.TOKEN: changed (redacted)\x1b[0m\n" +
		"\nDifferences: 1 changed.\n"
	if got := RenderDifferences(differences, RenderOptions{Color: true, Diff: true}); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}
