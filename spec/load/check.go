package load

import (
	"fmt"

	"github.com/stack-run/stack/spec"
)

// check looks at what was written in files that compose-go accepts: support of each attribute, and what Compose warns of.
func (t *tree) check(src *source, enabled func(service string) bool) spec.Diagnostics {
	findings := append(spec.Diagnostics(nil), src.warnings...)
	unsupported := t.attributes(enabled)
	findings = append(findings, unsupported...)
	findings = append(findings, t.unseen(src.unsupported, unsupported, enabled)...)
	findings = append(findings, t.builds(enabled)...)
	if v := t.root.field("version"); v != nil {
		findings = append(findings, v.diagnose(spec.Warning, []string{"version"},
			"the attribute `version` is obsolete and is ignored", "take it out"))
	}
	return findings
}

// builds refuses services and jobs that only a build could give an image.
func (t *tree) builds(enabled func(service string) bool) spec.Diagnostics {
	return append(t.buildsOf("services", enabled), t.buildsOf("jobs", enabled)...)
}

func (t *tree) buildsOf(section string, enabled func(service string) bool) spec.Diagnostics {
	var findings spec.Diagnostics
	services := t.root.field(section)
	if services == nil {
		return nil
	}
	for _, name := range services.order {
		build := services.fields[name].field("build")
		if build == nil || build.kind == null || !enabled(name) || services.fields[name].field(extensionKey).field("build") != nil {
			continue
		}
		path := []string{section, name, "build"}
		if image := services.fields[name].field("image"); image != nil {
			findings = append(findings, build.diagnose(spec.Warning, path,
				fmt.Sprintf("image builds are not supported yet: the image %s is pulled instead", image.text), ""))
			continue
		}
		findings = append(findings, build.diagnose(spec.Error, path, "image builds are not supported yet",
			"give the service an image, or `x-stack: {build: COMMAND}` with a command that builds and loads one"))
	}
	return findings
}

// diagnostics gives compose-go's warnings a place in the files where there is one.
func (ns notes) diagnostics(t *tree) spec.Diagnostics {
	var findings spec.Diagnostics
	for _, note := range ns {
		if obsoleteVersion.MatchString(note) {
			continue
		}
		d := spec.Diagnostic{Severity: spec.Warning, Summary: note}
		if m := unsetVariable.FindStringSubmatch(note); m != nil {
			d = t.unset(m[1])
		}
		findings = append(findings, d)
	}
	return findings
}

// unset warns of a variable without a value, at the first place that uses it.
func (t *tree) unset(variable string) spec.Diagnostic {
	summary := fmt.Sprintf("the variable %q is not set and counts as empty", variable)
	remedy := fmt.Sprintf("set it in the environment or in .env, or write ${%s:-default}", variable)
	var find func(n *node, path []string) *spec.Diagnostic
	find = func(n *node, path []string) *spec.Diagnostic {
		if n.kind == scalar && n.mentions(variable) {
			d := n.diagnose(spec.Warning, path, summary, remedy)
			return &d
		}
		for i, item := range n.items {
			if d := find(item, join(path, fmt.Sprint(i))); d != nil {
				return d
			}
		}
		for _, key := range n.order {
			if d := find(n.fields[key], join(path, key)); d != nil {
				return d
			}
		}
		return nil
	}
	if d := find(t.root, nil); d != nil {
		return *d
	}
	return spec.Diagnostic{Severity: spec.Warning, Summary: summary, Remedy: remedy}
}
