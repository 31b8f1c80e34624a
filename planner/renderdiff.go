package planner

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
)

// fieldsOnce prints the changed fields of one address, unless they are those of the replica before it.
func (r *renderer) fieldsOnce(a Action, changes []spec.Change) {
	if len(changes) > 0 && a.Service == r.last.Service && slices.Equal(changes, r.last.Changes) {
		fmt.Fprintf(&r.b, "      as %s\n", r.last.Address)
		return
	}
	r.last = Action{Address: a.Address, Service: a.Service, Changes: changes}
	r.fields(changes)
}

// fields prints the changed fields of one address: old and new value, and of a config's content what changed in it.
func (r *renderer) fields(changes []spec.Change) {
	for _, ch := range changes {
		path := printable(ch.Path)
		switch {
		case ch.Text != "":
			fmt.Fprintf(&r.b, "      %s:\n", path)
			r.unified(ch.Text)
		case ch.Old == ch.New: // neither is shown
			fmt.Fprintf(&r.b, "      %s\n", r.paint(yellow, "~ "+path+": changed "+strings.Trim(ch.New, `"`)))
		case !r.opts.Diff:
			fmt.Fprintf(&r.b, "      %s: %s → %s\n", path, r.value(ch.Old), r.value(ch.New))
		default:
			if ch.Old != "" {
				fmt.Fprintf(&r.b, "      %s\n", r.paint(red, "- "+path+": "+r.value(ch.Old)))
			}
			if ch.New != "" {
				fmt.Fprintf(&r.b, "      %s\n", r.paint(green, "+ "+path+": "+r.value(ch.New)))
			}
		}
	}
}

// unified prints the hunks of a unified diff; which file they are of, the path above them says.
func (r *renderer) unified(text string) {
	if at := strings.Index(text, "\n@@"); strings.HasPrefix(text, "---") && at >= 0 {
		text = text[at+1:]
	}
	for line := range strings.Lines(text) {
		line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    ")
		color := dim
		switch {
		case strings.HasPrefix(line, "@@"):
			color = cyan
		case strings.HasPrefix(line, "-"):
			color = red
		case strings.HasPrefix(line, "+"):
			color = green
		}
		fmt.Fprintf(&r.b, "        %s\n", r.paint(color, printable(line)))
	}
}

// RenderDifferences is what differs between two desired states as text, and a line that counts.
func RenderDifferences(differences []spec.Difference, opts RenderOptions) string {
	r := renderer{opts: opts}
	signs := map[string]struct{ symbol, color string }{spec.Added: {"+", green}, spec.Removed: {"-", red}, spec.Changed: {"~", yellow}}
	counts := map[string]int{}
	for _, d := range differences {
		sign := signs[d.Verb]
		fmt.Fprintf(&r.b, "%s %s  %s\n", r.paint(sign.color, fmt.Sprintf("%3s", sign.symbol)), r.paint(bold, d.Address), d.Verb)
		r.fields(d.Changes)
		counts[d.Verb]++
	}
	if len(differences) == 0 {
		return "No difference.\n"
	}
	var parts []string
	for _, verb := range []string{spec.Added, spec.Changed, spec.Removed} {
		if counts[verb] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[verb], verb))
		}
	}
	return r.b.String() + "\nDifferences: " + strings.Join(parts, ", ") + ".\n"
}

// RenderExplanations is what was compared about addresses as text: = where it is as it should be, ! where it is not.
func RenderExplanations(explanations []Explanation, opts RenderOptions) string {
	r := renderer{opts: opts}
	for _, e := range explanations {
		fmt.Fprintf(&r.b, "%s: %s\n", r.paint(bold, e.Address), printable(e.Verdict))
		for _, c := range e.Checks {
			sign := r.paint(green, "=")
			if !c.OK {
				sign = r.paint(yellow, "!")
			}
			text := c.Observed
			if !c.OK && c.Desired != "" && c.Desired != c.Observed {
				text += ", wanted: " + c.Desired
			}
			line := fmt.Sprintf("  %s %s: %s", sign, printable(c.What), printable(text))
			if c.Note != "" {
				line += " (" + printable(c.Note) + ")"
			}
			r.b.WriteString(line + "\n")
			r.fields(c.Changes)
		}
		r.b.WriteByte('\n')
	}
	return r.b.String()
}

// Redact is the plan with what looks like a secret replaced in its changes. The plan itself is not changed.
func (p Plan) Redact() Plan {
	actions := make([]Action, len(p.Actions))
	for i, a := range p.Actions {
		a.Changes = spec.RedactAll(a.Changes)
		actions[i] = a
	}
	p.Actions = actions
	return p
}

// Redact is the explanation with what looks like a secret replaced.
func (e Explanation) Redact() Explanation {
	checks := make([]Criterion, len(e.Checks))
	for i, c := range e.Checks {
		c.Changes = spec.RedactAll(c.Changes)
		checks[i] = c
	}
	e.Checks = checks
	return e
}
