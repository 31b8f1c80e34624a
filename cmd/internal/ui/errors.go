package ui

import (
	"encoding/json"
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

// jsonError is an error among the lines of `--progress json`; error and message are as Compose has them.
type jsonError struct {
	Error   bool             `json:"error"`
	Message string           `json:"message"`
	Code    api.Code         `json:"code,omitempty"`
	Address string           `json:"address,omitempty"`
	Remedy  string           `json:"remedy,omitempty"`
	Logs    []string         `json:"logs,omitempty"`
	Others  []api.Error      `json:"others,omitempty"`
	Finding spec.Diagnostics `json:"findings,omitempty"`
}

// PrintErrorJSON is PrintError for programs: one object on one line.
func PrintErrorJSON(w io.Writer, err error) {
	out := jsonError{Error: true, Message: err.Error()}
	var failed *api.Error
	if errors.As(err, &failed) {
		out.Code, out.Address, out.Remedy, out.Logs, out.Others = failed.Code, failed.Address, failed.Remedy, failed.Logs, failed.Others
	}
	errors.As(err, &out.Finding)
	if line, jsonErr := json.Marshal(out); jsonErr == nil {
		fmt.Fprintf(w, "%s\n", line)
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
