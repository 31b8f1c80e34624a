package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// parseYAML reads YAML and JSON, which is YAML as far as SOPS writes it.
func parseYAML(data []byte, render func(*yaml.Node) ([]byte, error)) (*document, error) {
	var top yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&top); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: several documents", ErrFormat)
	}
	root := top.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%w: no mapping", ErrFormat)
	}
	d := &document{}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != "sops" {
			continue
		}
		if err := d.meta.read(root.Content[i+1]); err != nil {
			return nil, err
		}
		root.Content = append(root.Content[:i:i], root.Content[i+2:]...)
		break
	}
	if err := d.walk(root, nil); err != nil {
		return nil, err
	}
	d.render = func() ([]byte, error) { return render(root) }
	return d, nil
}

// read takes in the mapping under the key sops.
func (m *metadata) read(n *yaml.Node) error {
	var raw struct {
		LastModified     string `yaml:"lastmodified"`
		MAC              string `yaml:"mac"`
		MACOnlyEncrypted bool   `yaml:"mac_only_encrypted"`
		Age              []struct{ Enc string }
		KeyGroups        []any `yaml:"key_groups"`
		KMS, PGP         []any
		GCP              []any `yaml:"gcp_kms"`
		Azure            []any `yaml:"azure_kv"`
		Vault            []any `yaml:"hc_vault"`
	}
	if err := n.Decode(&raw); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if len(raw.KeyGroups) > 0 {
		return fmt.Errorf("%w: key groups", ErrFormat)
	}
	m.lastModified, m.mac, m.macOnlyEncrypted = raw.LastModified, raw.MAC, raw.MACOnlyEncrypted
	m.others = len(raw.KMS)+len(raw.PGP)+len(raw.GCP)+len(raw.Azure)+len(raw.Vault) > 0
	for _, a := range raw.Age {
		m.age = append(m.age, a.Enc)
	}
	return nil
}

// walk collects the leaves in the order of the file. Places in lists take no part in a path.
func (d *document) walk(n *yaml.Node, path []string) error {
	dropEncryptedComments(n)
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			dropEncryptedComments(n.Content[i])
			if err := d.walk(n.Content[i+1], append(path[:len(path):len(path)], n.Content[i].Value)); err != nil {
				return err
			}
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if err := d.walk(item, path); err != nil {
				return err
			}
		}
	case yaml.ScalarNode:
		var value any
		if err := n.Decode(&value); err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if value != nil {
			d.leaves = append(d.leaves, leaf{path: path, value: value, set: func(plain any) { replaceScalar(n, plain) }})
		}
	default:
		return fmt.Errorf("%w: anchors", ErrFormat)
	}
	return nil
}

func dropEncryptedComments(n *yaml.Node) {
	for _, comment := range []*string{&n.HeadComment, &n.LineComment, &n.FootComment} {
		if strings.Contains(*comment, prefix) {
			*comment = ""
		}
	}
}

func replaceScalar(n *yaml.Node, plain any) {
	if text, ok := plain.(string); ok && !utf8.ValidString(text) {
		n.Value, n.Tag = text, "!!str" // of a binary file: YAML has no way to write it
		return
	}
	comments := [3]string{n.HeadComment, n.LineComment, n.FootComment}
	if err := n.Encode(plain); err != nil {
		panic(fmt.Sprintf("sops: encode %T: %v", plain, err)) // strings and numbers
	}
	n.HeadComment, n.LineComment, n.FootComment = comments[0], comments[1], comments[2]
}

func renderYAML(root *yaml.Node) ([]byte, error) { return yaml.Marshal(root) }

// renderBinary is the one value that a file of no known kind has.
func renderBinary(root *yaml.Node) ([]byte, error) {
	if len(root.Content) != 2 || root.Content[0].Value != "data" {
		return nil, fmt.Errorf("%w: a name that ends in .yaml, .json or .env tells which it is", ErrFormat)
	}
	return []byte(root.Content[1].Value), nil
}

func renderJSON(root *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	if err := writeJSON(&b, root); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err := json.Indent(&out, b.Bytes(), "", "\t")
	return append(out.Bytes(), '\n'), err
}

// writeJSON keeps the order of keys, which encoding/json would not.
func writeJSON(b *bytes.Buffer, n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode, yaml.SequenceNode:
		brackets, step := "[]", 1
		if n.Kind == yaml.MappingNode {
			brackets, step = "{}", 2
		}
		b.WriteByte(brackets[0])
		for i := 0; i < len(n.Content); i += step {
			if i > 0 {
				b.WriteByte(',')
			}
			if step == 2 {
				key, err := json.Marshal(n.Content[i].Value)
				if err != nil {
					return err
				}
				b.Write(append(key, ':'))
			}
			if err := writeJSON(b, n.Content[i+step-1]); err != nil {
				return err
			}
		}
		b.WriteByte(brackets[1])
		return nil
	}
	var value any
	if err := n.Decode(&value); err != nil {
		return err
	}
	text, err := json.Marshal(value)
	b.Write(text)
	return err
}

var ageEntry = regexp.MustCompile(`^sops_age__list_\d+__map_enc$`)

// parseDotenv reads KEY=value lines. SOPS's own begin with sops_.
func parseDotenv(data []byte) (*document, error) {
	d := &document{}
	var lines []*string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if line == "" {
			continue
		}
		if strings.HasPrefix(line, "#") {
			if !strings.Contains(line, prefix) {
				lines = append(lines, &line)
			}
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("%w: a line without =", ErrFormat)
		}
		value = strings.ReplaceAll(value, `\n`, "\n")
		if strings.HasPrefix(name, "sops_") {
			d.names = append(d.names, name)
			d.meta.dotenv(name, value)
			continue
		}
		lines = append(lines, &line)
		d.leaves = append(d.leaves, leaf{path: []string{name}, value: value, set: func(plain any) {
			line = name + "=" + strings.ReplaceAll(plainText(plain), "\n", `\n`)
		}})
	}
	d.render = func() ([]byte, error) {
		var b bytes.Buffer
		for _, line := range lines {
			b.WriteString(*line + "\n")
		}
		return b.Bytes(), nil
	}
	return d, nil
}

func (m *metadata) dotenv(name, value string) {
	switch {
	case name == "sops_lastmodified":
		m.lastModified = value
	case name == "sops_mac":
		m.mac = value
	case name == "sops_mac_only_encrypted":
		m.macOnlyEncrypted = value == "true"
	case ageEntry.MatchString(name):
		m.age = append(m.age, value)
	case strings.HasSuffix(name, "__map_enc"):
		m.others = true
	}
}
