package load

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/stack-run/stack/spec/cache"
)

// entangling are the keys by which a service can be about others, or about other files.
var entangling = []string{"extends", "include", "profiles", "jobs"}

// written tells what the named files say of each service, and of all else. It is nil where a change of one service may be one
// of others without naming them.
func (t *tree) written() *cache.Written {
	if slices.ContainsFunc(entangling, func(key string) bool { return t.keys[key] }) {
		return nil
	}
	services, rest := map[string][]byte{}, []byte(nil)
	for i, f := range t.named {
		for j, doc := range f.documents {
			place := []byte{byte(i), byte(j)} // what a file says may count more or less than what another one does
			if i > 255 || j > 255 {
				return nil
			}
			for key, value := range pairs(doc) {
				if key.Value != "services" || value.ShortTag() == "!!null" {
					rest = said(said(append(rest, place...), key), value)
					continue
				}
				if value.Kind != yaml.MappingNode || value.ShortTag() != "!!map" {
					return nil
				}
				for name, service := range pairs(value) {
					if name.Kind != yaml.ScalarNode || name.ShortTag() == "!!merge" {
						return nil
					}
					services[name.Value] = said(append(services[name.Value], place...), service)
				}
			}
		}
	}
	w := &cache.Written{Services: make(map[string]string, len(services)), Rest: short(rest)}
	for name, content := range services {
		w.Services[name] = short(content)
	}
	return w
}

// pairs are the keys and values of a mapping.
func pairs(y *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		for i := 0; i+1 < len(y.Content); i += 2 {
			if !yield(y.Content[i], y.Content[i+1]) {
				return
			}
		}
	}
}

// said appends all that a value says, and how it is written where that can matter: not where it stands, nor its comments.
// Values in which aliases go round, or that they blow up, have been refused before.
func said(to []byte, y *yaml.Node) []byte {
	for y.Kind == yaml.AliasNode {
		y = y.Alias
	}
	to = append(to, byte(y.Kind))
	to = binary.AppendUvarint(to, uint64(y.Style))
	for _, text := range []string{y.Tag, y.Value} {
		to = append(binary.AppendUvarint(to, uint64(len(text))), text...)
	}
	to = binary.AppendUvarint(to, uint64(len(y.Content)))
	for _, content := range y.Content {
		to = said(to, content)
	}
	return to
}

func short(content []byte) string {
	sum := sha256.Sum256(content)
	return base64.RawStdEncoding.EncodeToString(sum[:16])
}
