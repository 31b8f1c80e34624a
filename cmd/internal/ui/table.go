package ui

import (
	"io"
	"strings"
	"text/tabwriter"
)

// Table prints aligned columns below their headings.
func Table(w io.Writer, headings []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	io.WriteString(t, strings.Join(headings, "\t")+"\n")
	for _, row := range rows {
		io.WriteString(t, strings.Join(row, "\t")+"\n")
	}
	t.Flush()
}
