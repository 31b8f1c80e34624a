package planner

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the plans into testdata instead of comparing them")

// goldenCase is one situation and the plan for it. In a file, a line "=== name" begins a case and "-- desired --",
// "-- observed --", "-- command --" and "-- plan --" its parts; a part left out is that of the case before.
type goldenCase struct {
	name, desired, observed, command, plan string
	written                                []string // names of the parts that the file gives
}

// TestPlans compares the plans for the situations in testdata, where each file holds one behaviour. A command's plan is
// written as `stack plan --verbose` prints it, or with the flag --terse as `stack plan` does.
func TestPlans(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no situations in testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			head, cases := parseGolden(t, string(content))
			for i := range cases {
				c := &cases[i]
				t.Run(c.name, func(t *testing.T) {
					got := planText(t, c)
					if *update {
						c.plan = got
					} else if got != c.plan {
						t.Errorf("the command\n%s\nhas the plan\n%s\ninstead of\n%s", c.command, got, c.plan)
					}
				})
			}
			if *update {
				if err := os.WriteFile(file, []byte(formatGolden(head, cases)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func planText(t *testing.T, c *goldenCase) string {
	t.Helper()
	s := parseDesired(t, c.desired)
	s.parseObserved(t, c.observed)
	if addresses, ok := strings.CutPrefix(c.command, "explain "); ok {
		explanations, err := Explain(s.desired, s.observed, Options{}, strings.Fields(addresses))
		if err != nil {
			return "error: " + err.Error() + "\n"
		}
		return strings.TrimRight(RenderExplanations(explanations, RenderOptions{}), "\n") + "\n"
	}
	plan, err := s.run(t, c.command)
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	if err := plan.Check(); err != nil {
		t.Error(err)
	}
	return Render(plan, RenderOptions{Verbose: !strings.Contains(c.command, "--terse")})
}

func parseGolden(t *testing.T, content string) (head string, cases []goldenCase) {
	t.Helper()
	var (
		c    *goldenCase
		into *string
	)
	for line := range strings.Lines(content) {
		trimmed := strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(trimmed, "=== "); ok {
			next := goldenCase{name: name}
			if len(cases) > 0 {
				last := cases[len(cases)-1]
				next.desired, next.observed, next.command = last.desired, last.observed, last.command
			}
			cases = append(cases, next)
			c, into = &cases[len(cases)-1], nil
			continue
		}
		if strings.HasPrefix(trimmed, "-- ") && strings.HasSuffix(trimmed, " --") && c != nil {
			part := strings.Trim(trimmed, "- ")
			into = c.part(part)
			if into == nil {
				t.Fatalf("no such part: %s", part)
			}
			*into = ""
			c.written = append(c.written, part)
			continue
		}
		switch {
		case c == nil:
			head += line
		case into != nil:
			*into += line
		}
	}
	for i := range cases {
		// The empty line before the next case is not part of the plan.
		cases[i].plan = strings.TrimRight(cases[i].plan, "\n") + "\n"
	}
	return head, cases
}

func (c *goldenCase) part(name string) *string {
	return map[string]*string{"desired": &c.desired, "observed": &c.observed, "command": &c.command, "plan": &c.plan}[name]
}

func formatGolden(head string, cases []goldenCase) string {
	var b strings.Builder
	b.WriteString(head)
	for i, c := range cases {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "=== %s\n", c.name)
		for _, part := range c.written {
			if part != "plan" {
				fmt.Fprintf(&b, "-- %s --\n%s", part, *c.part(part))
			}
		}
		fmt.Fprintf(&b, "-- plan --\n%s", c.plan)
	}
	return b.String()
}
