package spec

import (
	"fmt"
	"strings"
)

// Severity of a diagnostic.
type Severity string

// An Error stops the load; a Warning is printed and the load goes on, as Compose does.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Diagnostic is one finding about a stack file: what is wrong, where, and what to write instead.
type Diagnostic struct {
	Severity Severity `json:"severity"`
	// File is absolute or as the user gave it; Line and Column count from 1, 0 where unknown.
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"` // attribute path: services.web.ports[0]
	Summary string `json:"summary"`
	Remedy  string `json:"remedy,omitempty"`
}

// String is "file:line:column: path: summary; remedy", with "warning: " before the path of a warning.
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.File != "" {
		b.WriteString(d.File)
		if d.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", d.Line, d.Column)
		}
		b.WriteString(": ")
	}
	if d.Severity == Warning {
		b.WriteString("warning: ")
	}
	if d.Path != "" {
		b.WriteString(d.Path + ": ")
	}
	b.WriteString(d.Summary)
	if d.Remedy != "" {
		b.WriteString("; " + d.Remedy)
	}
	return b.String()
}

// Diagnostics are all findings of one load. As an error it is not empty and holds at least one Error.
type Diagnostics []Diagnostic

func (ds Diagnostics) Error() string {
	lines := make([]string, len(ds))
	for i, d := range ds {
		lines[i] = d.String()
	}
	return strings.Join(lines, "\n")
}

// HasErrors tells whether any finding stops the load.
func (ds Diagnostics) HasErrors() bool {
	for _, d := range ds {
		if d.Severity == Error {
			return true
		}
	}
	return false
}
