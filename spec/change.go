package spec

// Change is one field-level difference: the attribute's path and its values as JSON text, empty where absent.
// Values of secrets are never shown, their digests are.
type Change struct {
	Path string `json:"path"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}
