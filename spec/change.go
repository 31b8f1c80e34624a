package spec

import "fmt"

// Change is one field-level difference: the attribute's path and its values as JSON text, empty where absent.
// Contents of secrets are never shown,
// not even as digests: that of a weak password gives it away.
type Change struct {
	Path string `json:"path"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
	// Text is the difference of two contents of a config as a unified diff, where both are known and text.
	Text string `json:"text,omitempty"`
}

// String is "path: old -> new".
func (c Change) String() string {
	show := func(s string) string {
		if s == "" {
			return "(none)"
		}
		return s
	}
	return fmt.Sprintf("%s: %s -> %s", c.Path, show(c.Old), show(c.New))
}
