package ui

import (
	"errors"
	"fmt"
	"io"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/spec"
)

// PrintError says what went wrong, where, what to do, and what the container said last.
func PrintError(w io.Writer, err error, color bool) {
	var findings spec.Diagnostics
	var failed *api.Error
	switch {
	case errors.As(err, &findings):
		PrintDiagnostics(w, findings, color)
	case errors.As(err, &failed):
		printFailed(w, failed, color)
	default:
		fmt.Fprintf(w, "%s %s\n", paint(color, red, "error:"), err)
	}
}

func printFailed(w io.Writer, e *api.Error, color bool) {
	text := e.Message
	if e.Address != "" {
		text = paint(color, bold, e.Address) + ": " + text
	}
	fmt.Fprintf(w, "%s %s\n", paint(color, red, "error:"), text)
	for _, line := range e.Logs {
		fmt.Fprintf(w, "  | %s\n", line)
	}
	if e.Remedy != "" {
		fmt.Fprintf(w, "  %s\n", e.Remedy)
	}
	for i := range e.Others {
		printFailed(w, &e.Others[i], color)
	}
}

// PrintDiagnostics prints findings, one a line: file:line:column, the attribute, what is wrong, what to write instead.
func PrintDiagnostics(w io.Writer, findings spec.Diagnostics, color bool) {
	for _, d := range findings {
		if d.Severity == spec.Warning {
			fmt.Fprintln(w, paint(color, yellow, d.String())) // says itself that it is a warning
			continue
		}
		fmt.Fprintf(w, "%s %s\n", paint(color, red, "error:"), d)
	}
}
