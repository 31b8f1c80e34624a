package load

import (
	"github.com/stack-run/stack/spec"
)

// explain turns compose-go's first error into all that is wrong.
func (t *tree) explain(src *source, err error, ns notes) spec.Diagnostics {
	findings := append(spec.Diagnostics(nil), t.findings...)
	findings = append(findings, ns.diagnostics(t)...)
	if !findings.HasErrors() {
		findings = append(findings, spec.Diagnostic{Severity: spec.Error, Summary: err.Error()})
	}
	return sorted(findings)
}
