package load

import (
	"bytes"
	"slices"

	"gopkg.in/yaml.v3"
)

// cut takes the services that are not to stay out of a file's text, by lines. Whether what is left says the same of the others
// is for the caller to see: lines may hold more than one thing, and services what others refer to.
func cut(f *file, content []byte, stays map[string]bool) []byte {
	var begins []int       // of each key, of the file and of its services: before it the last one ends
	gone := map[int]bool{} // of the lines where keys begin
	for _, doc := range f.documents {
		for key, value := range pairs(doc) {
			begins = append(begins, key.Line)
			if key.Value != "services" || value.Kind != yaml.MappingNode {
				continue
			}
			any := false
			for name := range pairs(value) {
				begins = append(begins, name.Line)
				gone[name.Line] = !stays[name.Value]
				any = any || stays[name.Value]
			}
			gone[key.Line] = !any
		}
	}
	slices.Sort(begins)
	begins = slices.Compact(begins)
	lines := bytes.SplitAfter(content, []byte("\n"))
	if len(begins) == 0 || begins[0] < 1 || begins[len(begins)-1] > len(lines) {
		return content
	}
	left := slices.Concat(lines[:begins[0]-1]...)
	for i, begin := range begins {
		end := len(lines)
		if i+1 < len(begins) {
			end = begins[i+1] - 1
		}
		if !gone[begin] {
			left = append(left, bytes.Join(lines[begin-1:end], nil)...)
		}
	}
	return left
}
