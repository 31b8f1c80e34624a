package load

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	attribute "github.com/compose-spec/compose-go/v2/tree"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// explain turns compose-go's first error into all that is wrong. What the tree finds has a place; only if it finds
// nothing, compose-go's own words must do.
func (t *tree) explain(ctx context.Context, src *source, err error, ns notes) spec.Diagnostics {
	findings := append(spec.Diagnostics(nil), t.findings...)
	findings = append(findings, src.warnings...)
	findings = append(findings, ns.diagnostics(t)...)
	if !findings.HasErrors() { // of half a file only nonsense could be said
		data, invalid := t.data(newCaster())
		findings = append(findings, invalid...)
		findings = append(findings, t.violations(data)...)
		everything := func(string) bool { return true }
		if services := t.active(src); services != nil {
			everything = func(name string) bool { return services[name] }
		}
		findings = append(findings, t.attributes(everything)...)
		findings = append(findings, t.builds(everything)...)
		findings = append(findings, t.values(src.observing)...)
		findings = append(findings, t.references(everything, src.observing)...)
		findings = append(findings, t.beyond(ctx, src, data, findings)...)
	}
	if !findings.HasErrors() {
		findings = append(findings, t.locate(err))
	}
	return sorted(findings)
}

// mentioned is how compose-go's errors name an attribute, or else a service.
var mentioned = regexp.MustCompile(`\b(?:services|jobs|networks|volumes|secrets|configs)\.[\w.\[\]-]+|service "?([\w.-]+)"?`)

// locate gives compose-go's own words a place, if they name one.
func (t *tree) locate(err error) spec.Diagnostic {
	m := mentioned.FindStringSubmatch(err.Error())
	switch {
	case m == nil:
		return spec.Diagnostic{Severity: spec.Error, Summary: err.Error()}
	case m[1] != "":
		return t.diagnose(spec.Error, []string{"services", m[1]}, err.Error(), "")
	}
	return t.diagnose(spec.Error, splitPath(m[0]), err.Error(), "")
}

// active are the services and jobs that the profiles enable, by what the tree knows.
func (t *tree) active(src *source) map[string]bool {
	services := t.root.field("services")
	if services == nil {
		return nil
	}
	all := map[string]bool{}
	for _, section := range []*node{services, t.root.field("jobs")} {
		if section == nil {
			continue
		}
		for _, name := range section.order {
			s := types.ServiceConfig{Profiles: section.fields[name].field("profiles").texts()}
			all[name] = s.HasProfile(src.profiles)
		}
	}
	return all
}

// interpolationError says what is wrong with a variable.
func (n *node) interpolationError(err error, path []string) spec.Diagnostic {
	var missing *template.MissingRequiredError
	var invalid *template.InvalidTemplateError
	switch {
	case errors.As(err, &missing):
		summary := fmt.Sprintf("the variable %q must be set", missing.Variable)
		if missing.Reason != "" {
			summary += ": " + missing.Reason
		}
		return n.diagnose(spec.Error, path, summary, "set it in the environment or in .env")
	case errors.As(err, &invalid):
		return n.diagnose(spec.Error, path, fmt.Sprintf("%q is not a variable as Compose writes them", n.text),
			"write ${NAME}, or $$ for a dollar sign")
	}
	return n.diagnose(spec.Error, path, err.Error(), "")
}

// caster turns text into numbers and booleans at the paths where compose-go does.
type caster struct {
	casts map[attribute.Path]interpolation.Cast
}

func newCaster() caster {
	return caster{casts: loader.ToOptions(&types.ConfigDetails{}, nil).Interpolate.TypeCastMapping}
}

// cast returns the text itself where nothing else is wanted. The error wraps the conversion's.
func (c caster) cast(text string, path []string) (any, error) {
	p := attribute.NewPath()
	for _, step := range path {
		if _, err := strconv.Atoi(step); err == nil {
			step = attribute.PathMatchList
		}
		p = p.Next(step)
	}
	for pattern, cast := range c.casts {
		if p.Matches(pattern) {
			value, err := cast(text)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p, err)
			}
			return value, nil
		}
	}
	return text, nil
}
