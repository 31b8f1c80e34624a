package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"
	"text/template"
)

// printFormatted prints rows by --format: "json" is one object a line, anything else a template, and "table TEMPLATE" one
// with aligned columns below headings.
func printFormatted[T any](w io.Writer, format string, rows []T, headings map[string]string) error {
	if format == "json" {
		for _, row := range rows {
			if err := printJSON(w, row); err != nil {
				return err
			}
		}
		return nil
	}
	text, isTable := strings.CutPrefix(format, "table")
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(strings.TrimSpace(text))
	t, err := template.New("format").Funcs(templateFuncs).Parse(text)
	if err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	if isTable {
		aligned := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
		defer aligned.Flush()
		w = aligned
		fmt.Fprintln(w, headingsOf(text, headings))
	}
	for _, row := range rows {
		if err := t.Execute(w, row); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		fmt.Fprintln(w)
	}
	return nil
}

// printJSON prints one value on one line, with < and > as they are.
func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// templateFuncs are the functions that Docker's templates have.
var templateFuncs = template.FuncMap{
	"json": func(v any) (string, error) {
		var b bytes.Buffer
		err := printJSON(&b, v)
		return strings.TrimSpace(b.String()), err
	},
	"join":  strings.Join,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"split": strings.Split,
	"truncate": func(s string, n int) string {
		if len(s) < n {
			return s
		}
		return s[:max(n, 0)]
	},
}

var field = regexp.MustCompile(`{{[^}]*?\.(\w+)[^}]*}}`)

// headingsOf replaces each field of a template by its heading.
func headingsOf(text string, headings map[string]string) string {
	return field.ReplaceAllStringFunc(text, func(match string) string {
		name := field.FindStringSubmatch(match)[1]
		if heading, ok := headings[name]; ok {
			return heading
		}
		return strings.ToUpper(name)
	})
}
