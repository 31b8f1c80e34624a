package ui

import (
	"bytes"
	"testing"
)

func TestColoursAreUsedWhereTheyAreWanted(t *testing.T) {
	var file bytes.Buffer // no terminal
	for _, c := range []struct {
		ansi    ANSI
		noColor string
		want    bool
	}{
		{AutoANSI, "", false},
		{AlwaysANSI, "", true},
		{AlwaysANSI, "1", true}, // asked for on this very command line
		{NeverANSI, "", false},
	} {
		if got := c.ansi.Color(&file, c.noColor); got != c.want {
			t.Errorf("--ansi %s with NO_COLOR=%q: %t", c.ansi, c.noColor, got)
		}
	}
	if paint(true, red, "") != "" || paint(false, red, "x") != "x" || paint(true, red, "x") != "\x1b[31mx\x1b[0m" {
		t.Error("paint")
	}
}
