package planner

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stack-run/stack/spec"
)

// RenderOptions say how a plan is printed.
type RenderOptions struct {
	Color   bool
	Verbose bool // every action by itself, with what it comes after; values in full
	Diff    bool // old and new values below each other, in full
}

// Render is the plan as text: what happens to each address, why, and what changed; then the notes and a line that counts.
func Render(p Plan, opts RenderOptions) string {
	r := renderer{opts: opts}
	switch {
	case opts.Verbose:
		r.actions(p)
	case !p.Empty():
		r.changes(p)
	}
	if r.b.Len() > 0 {
		r.b.WriteByte('\n')
	}
	r.rollouts(p.Rollouts)
	r.notes(p.Notes)
	r.b.WriteString(count(p) + "\n")
	return r.b.String()
}

// verb is what happens to one address, in the end. Its value is its place in the count.
type verb int

const (
	verbBuild verb = iota
	verbPull
	verbCreate
	verbRecreate
	verbUpdate
	verbRepair
	verbRestart
	verbStart
	verbPreStart
	verbPostStart
	verbUnpause
	verbResume
	verbSuspend
	verbPause
	verbStop
	verbKill
	verbRemove
	verbWait
	verbPace // what only times a rollout
)

var verbs = map[verb]struct{ symbol, word, color string }{
	verbBuild:     {"+", "build", green},
	verbPull:      {"+", "pull", green},
	verbCreate:    {"+", "create", green},
	verbRecreate:  {"-/+", "recreate", yellow},
	verbUpdate:    {"~", "update", yellow},
	verbRepair:    {"~", "repair", yellow},
	verbRestart:   {">", "restart", cyan},
	verbStart:     {">", "start", cyan},
	verbPreStart:  {">", "prepare", cyan},
	verbPostStart: {">", "complete", cyan},
	verbUnpause:   {">", "unpause", cyan},
	verbResume:    {">", "resume", cyan},
	verbSuspend:   {"|", "suspend", cyan},
	verbPause:     {"|", "pause", cyan},
	verbStop:      {"x", "stop", red},
	verbKill:      {"x", "kill", red},
	verbRemove:    {"-", "remove", red},
	verbWait:      {".", "wait", dim},
	verbPace:      {".", "pace", dim},
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	dim    = "2"
	bold   = "1"
)

// fold is all that a plan does to one address: the actions in their order.
type fold []Action

// folds groups the actions by address, in the order in which addresses first appear. A wait stands alone, and so
// does each of several containers with the same address.
func folds(p Plan) []fold {
	var all []fold
	at := map[string]int{}
	for _, a := range p.Actions {
		key := a.Address
		switch {
		case paces(a.Kind):
			continue // the rollout's line tells it
		case a.Kind == Wait:
			key = fmt.Sprint("wait ", a.ID)
		case a.Service != "" && a.Replica == 0:
			key += " " + a.Name
		}
		i, ok := at[key]
		if !ok {
			i = len(all)
			at[key] = i
			all = append(all, nil)
		}
		all[i] = append(all[i], a)
	}
	return all
}

func (f fold) verb() verb {
	has := map[Kind]bool{}
	for _, a := range f {
		has[a.Kind] = true
	}
	created := has[CreateContainer] || has[CreateNetwork] || has[CreateVolume] || has[AddJob]
	removed := has[RemoveContainer] || has[RemoveNetwork] || has[RemoveVolume] || has[RemoveImage] || has[RemoveJob]
	switch {
	case (created || has[RenameContainer]) && removed:
		return verbRecreate
	case created:
		return verbCreate
	case removed:
		return verbRemove
	case has[BuildImage]:
		return verbBuild
	case has[PullImage]:
		return verbPull
	case has[RepairNetwork], has[RepairVolume]:
		return verbRepair
	case has[Monitor] || has[Delay]:
		return verbPace
	case has[StopContainer] && has[StartContainer]:
		return verbRestart
	case has[StartContainer]:
		return verbStart
	case has[PostStart]:
		return verbPostStart
	case has[PreStart]:
		return verbPreStart
	case has[RepairContainer]:
		return verbRepair
	case has[UnpauseContainer]:
		return verbUnpause
	case has[UpdateContainer], has[RenameContainer], has[ServeContainer], has[UpdateJob]:
		return verbUpdate
	case has[ResumeJob]:
		return verbResume
	case has[SuspendJob]:
		return verbSuspend
	case has[PauseContainer]:
		return verbPause
	case has[StopContainer], has[DrainContainer]:
		return verbStop
	case has[KillContainer]:
		return verbKill
	}
	return verbWait
}

// cause is the action whose reason stands for the whole: the first that isn't an update, which has a line of its own.
func (f fold) cause() Action {
	for _, a := range f {
		if a.Kind != UpdateContainer {
			return a
		}
	}
	return f[0]
}

func (f fold) changes() []spec.Change {
	for _, a := range f {
		if len(a.Changes) > 0 {
			return a.Changes
		}
	}
	return nil
}

type renderer struct {
	b    strings.Builder
	opts RenderOptions
	last Action // whose changes were printed last
}

// changes prints one entry an address.
func (r *renderer) changes(p Plan) {
	all := folds(p)
	width := 0
	for _, f := range all {
		width = max(width, utf8.RuneCountInString(f[0].Address))
	}
	for _, f := range all {
		v := verbs[f.verb()]
		cause := f.cause()
		symbol := r.paint(v.color, fmt.Sprintf("%3s", v.symbol))
		address := cause.Address + strings.Repeat(" ", width-utf8.RuneCountInString(cause.Address))
		word, reason := v.word, because(cause)
		if cause.Kind == PullImage || cause.Kind == BuildImage {
			word = "would " + word
			if cause.Reason != Missing {
				reason += "; whether that asks for more is known then"
			}
		}
		fmt.Fprintf(&r.b, "%s %s  %-8s  %s\n", symbol, r.paint(bold, address), word, reason)
		r.fieldsOnce(cause, f.changes())
	}
}

// actions prints one entry an action.
func (r *renderer) actions(p Plan) {
	for _, a := range p.Actions {
		v := verbs[fold{a}.verb()]
		fmt.Fprintf(&r.b, "%s %s %s  %s", r.paint(v.color, fmt.Sprintf("#%-3d", a.ID)), a.Kind, r.paint(bold, a.Address), because(a))
		for _, extra := range extras(a) {
			r.b.WriteString(" " + extra)
		}
		r.b.WriteByte('\n')
		if a.Kind != RemoveContainer && a.Kind != StopContainer {
			r.fields(a.Changes)
		}
	}
}

// extras are an action's particulars beyond what it is and why.
func extras(a Action) []string {
	var extras []string
	if a.Name != "" && !strings.HasSuffix(a.Address, "."+a.Name) {
		extras = append(extras, "["+printable(a.Name)+"]")
	}
	if a.Replaces != "" {
		extras = append(extras, "replaces="+short(a.Replaces))
	}
	if a.Succeeds != "" {
		extras = append(extras, "beside="+short(a.Succeeds))
	}
	if a.To != "" {
		extras = append(extras, "to="+printable(a.To))
	}
	if a.Hold {
		extras = append(extras, "new connections wait")
	}
	if a.Kind == Monitor || a.Kind == Delay {
		extras = append(extras, "for "+a.For.String())
	}
	if a.Timeout != nil {
		extras = append(extras, "timeout="+a.Timeout.String())
	}
	if a.Signal != "" {
		extras = append(extras, "signal="+printable(a.Signal))
	}
	if a.Volumes {
		extras = append(extras, "with anonymous volumes")
	}
	if len(a.After) > 0 {
		ids := make([]string, len(a.After))
		for i, id := range a.After {
			ids[i] = "#" + strconv.Itoa(id)
		}
		extras = append(extras, "after "+strings.Join(ids, " "))
	}
	return extras
}

// because is an action's reason in words.
func because(a Action) string {
	if a.Kind == Wait {
		words := strings.ReplaceAll(strings.TrimPrefix(a.Condition, "service_"), "_", " ")
		if a.Optional {
			words += " (optional)"
		}
		return words
	}
	if a.Detail == "" {
		return string(a.Reason)
	}
	return fmt.Sprintf("%s: %s", a.Reason, printable(a.Detail))
}

// value is a field's value, cut short unless all is wanted.
func (r *renderer) value(v string) string {
	const most = 60
	if v == "" {
		return "(none)"
	}
	v = printable(v)
	if runes := []rune(v); !r.opts.Verbose && !r.opts.Diff && len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return v
}

// paces tells whether an action only sets the pace of a rollout.
func paces(k Kind) bool { return k == Monitor || k == Delay }

func (r *renderer) rollouts(rollouts []Rollout) {
	for _, rollout := range rollouts {
		fmt.Fprintf(&r.b, "%s %s: %s\n", r.paint(cyan, "Rollout:"), spec.ServiceAddress(rollout.Service), printable(rollout.String()))
	}
	if len(rollouts) > 0 {
		r.b.WriteByte('\n')
	}
}

func (r *renderer) notes(notes []Note) {
	for _, n := range notes {
		line := printable(n.Text)
		if n.Address != "" {
			line = n.Address + ": " + line
		}
		if n.Remedy != "" {
			line += "; " + printable(n.Remedy)
		}
		fmt.Fprintf(&r.b, "%s %s\n", r.paint(yellow, "Note:"), line)
	}
	if len(notes) > 0 {
		r.b.WriteByte('\n')
	}
}

func (r *renderer) paint(color, text string) string {
	if !r.opts.Color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// count is the last line: "Plan: 3 to create, 1 to recreate."
func count(p Plan) string {
	if p.Empty() {
		return "Nothing to do."
	}
	counts := map[verb]int{}
	for _, f := range folds(p) {
		counts[f.verb()]++
	}
	var parts []string
	for v := verbBuild; v < verbWait; v++ {
		if counts[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", counts[v], verbs[v].word))
		}
	}
	return "Plan: " + strings.Join(parts, ", ") + "."
}

// printable escapes what could steer a terminal: values come from files that others may have written.
func printable(s string) string {
	if strings.IndexFunc(s, unicode.IsControl) < 0 {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		if unicode.IsControl(c) {
			b.WriteString(strings.Trim(strconv.QuoteRune(c), "'"))
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}
