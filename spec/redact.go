package spec

import (
	"encoding/json"
	"maps"
	"regexp"
	"strings"
)

// Plans, diffs and histories are pasted into tickets and chats. What looks like a secret in them is replaced unless it is asked
// for: values of variables, labels and options whose names say so, and passwords inside values.

// redacted stands for a value that is not shown.
const redacted = "(redacted)"

var (
	secretWord = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|secret|token|credential|(^|[^a-z])(pass|pwd)$|key$|key[^a-z])`)
	// A variable that ends in _FILE names the file that holds the secret, as many images want it.
	secretFile = regexp.MustCompile(`(?i)[_.-]file$`)
	// user:password@ of a URL, and password=... among options.
	inURL = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@"]*:)[^\s/@"]+@`)
	// key = value and key: value of a config's lines, after the sign that a diff puts before them.
	inLine   = regexp.MustCompile(`(?m)^([-+ ]?\s*"?)([\w.-]+)("?\s*[:=]\s*)(\S.*)$`)
	inOption = regexp.MustCompile(`(?i)\b(passw(?:or)?d|passphrase|secret|token)(=|":\s*")[^\s,;&"']+`)
)

// IsSecretName tells whether a variable or option of this name is likely to hold a secret.
func IsSecretName(name string) bool {
	return secretWord.MatchString(name) && !secretFile.MatchString(name)
}

// Redact is the change with what looks like a secret replaced.
func (c Change) Redact() Change {
	hidden := false
	for _, mapping := range []string{"environment.", "labels.", "annotations.", "logging.options.", "driver_opts."} {
		if _, name, ok := strings.Cut("."+c.Path, "."+mapping); ok && IsSecretName(name) {
			hidden = true
		}
	}
	c.Text = redactLines(c.Text)
	for _, value := range []*string{&c.Old, &c.New} {
		switch {
		case *value == "":
		case hidden:
			*value = string(mustJSON(redacted))
		default:
			*value = redactText(*value)
		}
	}
	return c
}

// RedactAll redacts each of several changes.
func RedactAll(changes []Change) []Change {
	if changes == nil {
		return nil
	}
	out := make([]Change, len(changes))
	for i, c := range changes {
		out[i] = c.Redact()
	}
	return out
}

func redactText(text string) string {
	text = inURL.ReplaceAllString(text, "${1}"+redacted+"@")
	return inOption.ReplaceAllString(text, "${1}${2}"+redacted)
}

// redactLines redacts what a config holds.
func redactLines(text string) string {
	text = inLine.ReplaceAllStringFunc(text, func(line string) string {
		if parts := inLine.FindStringSubmatch(line); IsSecretName(parts[2]) {
			return parts[1] + parts[2] + parts[3] + redacted
		}
		return line
	})
	return redactText(text)
}

// Redact is the stack with what looks like a secret replaced, and without the contents of secrets.
func (s *Stack) Redact() *Stack {
	out := *s
	out.Services = make(map[string]*Service, len(s.Services))
	for name, svc := range s.Services {
		out.Services[name] = redactCopy(svc)
	}
	if s.Jobs != nil {
		out.Jobs = make(map[string]*Job, len(s.Jobs))
	}
	for name, job := range s.Jobs {
		out.Jobs[name] = redactCopy(job)
	}
	out.Secrets = withContents(s.Secrets, func([]byte) []byte { return nil })
	out.Configs = withContents(s.Configs, func(content []byte) []byte { return []byte(redactLines(string(content))) })
	for name, v := range s.Volumes {
		if len(v.DriverOpts) > 0 {
			copied := *v
			copied.DriverOpts = redactMap(v.DriverOpts)
			out.Volumes = maps.Clone(out.Volumes)
			out.Volumes[name] = &copied
		}
	}
	return &out
}

// redactCopy is a copy, by way of JSON: any text of a service may hold a password.
func redactCopy[T any](v *T) *T {
	var tree any
	var copied T
	if json.Unmarshal(mustJSON(v), &tree) != nil || json.Unmarshal(mustJSON(redactTree(tree, false)), &copied) != nil {
		panic("spec: decode what was just encoded")
	}
	return &copied
}

// redactTree redacts a service as JSON has it; names tells that the keys here are names that users choose.
func redactTree(v any, names bool) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if text, isText := value.(string); isText && names && IsSecretName(key) && text != "" {
				v[key] = redacted
				continue
			}
			v[key] = redactTree(value, key == "environment" || key == "labels" || key == "annotations" || key == "options" || key == "driver_opts")
		}
	case []any:
		for i := range v {
			v[i] = redactTree(v[i], false)
		}
	case string:
		return redactText(v)
	}
	return v
}

func redactMap(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for key, value := range m {
		if out[key] = redactText(value); IsSecretName(key) && value != "" {
			out[key] = redacted
		}
	}
	return out
}

func withContents(files map[string]*File, change func([]byte) []byte) map[string]*File {
	if files == nil {
		return nil
	}
	out := make(map[string]*File, len(files))
	for key, f := range files {
		changed := *f
		if f.Content != nil {
			changed.Content = change(f.Content)
		}
		out[key] = &changed
	}
	return out
}
