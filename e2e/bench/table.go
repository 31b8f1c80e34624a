package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// table collects the runs of each figure, by row and contender, in the order they came.
type table struct {
	rows   []string
	values map[string]map[string][]float64
}

func newTable() *table { return &table{values: map[string]map[string][]float64{}} }

func (t *table) add(row, contender string, value float64) {
	if t.values[row] == nil {
		t.rows = append(t.rows, row)
		t.values[row] = map[string][]float64{}
	}
	t.values[row][contender] = append(t.values[row][contender], value)
}

func (t *table) print(w io.Writer) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "\tstack\tdocker\tcrun\tstack/docker\tstack/crun\t")
	for _, row := range t.rows {
		v := t.values[row]
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\t\n", row, show(v["stack"]), show(v["docker"]), show(v["crun"]),
			ratio(v["stack"], v["docker"]), ratio(v["stack"], v["crun"]))
	}
	out.Flush()
}

// show gives the minimum and, of several, the median.
func show(values []float64) string {
	switch len(values) {
	case 0:
		return "-"
	case 1:
		return fmt.Sprintf("%.3f", values[0])
	}
	sorted := slices.Sorted(slices.Values(values))
	return fmt.Sprintf("%.3f (%.3f)", sorted[0], sorted[len(sorted)/2])
}

func ratio(a, b []float64) string {
	if len(a) == 0 || len(b) == 0 || slices.Min(a) <= 0 {
		return "-"
	}
	return fmt.Sprintf("1/%.1f", slices.Min(b)/slices.Min(a))
}
