package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/compose-spec/compose-go/v2/schema"
	"github.com/santhosh-tekuri/jsonschema/v6"
	violated "github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/stack-run/stack/spec"
)

// composeSchema is compiled once, and only when there is an error to explain: compose-go tells but the first violation.
var composeSchema = sync.OnceValues(func() (*jsonschema.Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(schema.Schema))
	if err != nil {
		return nil, fmt.Errorf("read the Compose schema: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.RegisterFormat(&jsonschema.Format{Name: "duration", Validate: func(v any) error {
		if s, ok := v.(string); ok {
			_, err := time.ParseDuration(s)
			return err
		}
		return nil
	}})
	if err := compiler.AddResource("compose-spec.json", doc); err != nil {
		return nil, fmt.Errorf("read the Compose schema: %w", err)
	}
	return compiler.Compile("compose-spec.json")
})

// violations are all the values that are not what the schema wants. Unknown attributes are left to the walk, which
// knows what they could have been.
func (t *tree) violations(data any) spec.Diagnostics {
	compiled, err := composeSchema()
	if err != nil {
		return fail("", "%v", err)
	}
	// Through JSON, since the validator takes no types but JSON's.
	encoded, err := json.Marshal(data)
	if err != nil {
		return fail("", "%v", err)
	}
	plain, err := jsonschema.UnmarshalJSON(strings.NewReader(string(encoded)))
	if err != nil {
		return fail("", "%v", err)
	}
	var violation *jsonschema.ValidationError
	if err := compiled.Validate(plain); !errors.As(err, &violation) {
		return nil
	}
	var findings spec.Diagnostics
	for _, v := range leaves(violation) {
		if extra, ok := v.ErrorKind.(*violated.AdditionalProperties); ok && userDefined(v.InstanceLocation) {
			for _, name := range extra.Properties {
				findings = append(findings, t.diagnose(spec.Error, join(v.InstanceLocation, name),
					fmt.Sprintf("%q can't be a name", name), "use letters, digits, dots, hyphens and underscores"))
			}
			continue
		}
		if summary, remedy := phrase(v); summary != "" {
			findings = append(findings, t.diagnose(spec.Error, v.InstanceLocation, summary, remedy))
		}
	}
	return findings
}

// leaves are the violations that have no cause of their own. Of alternatives that all fail, the one that got furthest
// into the value is what was meant; where all fail at the same place, they are taken together as one of types.
func leaves(v *jsonschema.ValidationError) []*jsonschema.ValidationError {
	if len(v.Causes) == 0 {
		return []*jsonschema.ValidationError{v}
	}
	switch v.ErrorKind.(type) {
	case *violated.OneOf, *violated.AnyOf:
		return alternatives(v)
	}
	var all []*jsonschema.ValidationError
	for _, cause := range v.Causes {
		all = append(all, leaves(cause)...)
	}
	return all
}

func alternatives(v *jsonschema.ValidationError) []*jsonschema.ValidationError {
	var deepest []*jsonschema.ValidationError
	depth := len(v.InstanceLocation)
	var want []string
	for _, cause := range v.Causes {
		found := leaves(cause)
		for _, l := range found {
			if t, ok := l.ErrorKind.(*violated.Type); ok && len(l.InstanceLocation) == len(v.InstanceLocation) {
				want = append(want, t.Want...)
				continue
			}
			at := len(l.InstanceLocation)
			if _, ok := l.ErrorKind.(*violated.AdditionalProperties); ok {
				at++
			}
			switch {
			case at > depth || deepest == nil:
				deepest, depth = found, at
			}
		}
	}
	if deepest != nil {
		return deepest
	}
	slices.Sort(want)
	together := *v
	together.Causes = nil
	together.ErrorKind = &violated.Type{Want: slices.Compact(want)}
	return []*jsonschema.ValidationError{&together}
}

// phrase says in plain words what the schema wants; "" for what the walk over the attributes reports.
func phrase(v *jsonschema.ValidationError) (summary, remedy string) {
	switch k := v.ErrorKind.(type) {
	case *violated.AdditionalProperties, *violated.FalseSchema:
		return "", ""
	case *violated.Type:
		words := make([]string, len(k.Want))
		for i, w := range k.Want {
			words[i] = typeWord(w)
		}
		if k.Got != "" {
			return fmt.Sprintf("must be %s, not %s", strings.Join(words, " or "), typeWord(k.Got)), ""
		}
		return "must be " + strings.Join(words, " or "), ""
	case *violated.Enum:
		words := make([]string, len(k.Want))
		for i, w := range k.Want {
			words[i] = fmt.Sprint(w)
		}
		return fmt.Sprintf("%v is not a possible value", k.Got), "use one of " + strings.Join(words, ", ")
	case *violated.Required:
		return fmt.Sprintf("%s is missing", strings.Join(k.Missing, ", ")), "add it"
	case *violated.UniqueItems:
		return fmt.Sprintf("the entries %d and %d are the same", k.Duplicates[0]+1, k.Duplicates[1]+1), "take one out"
	case *violated.Format:
		return fmt.Sprintf("%v is not a %s", k.Got, k.Want), "write it like 1m30s"
	case *violated.Pattern:
		if last(v.InstanceLocation) == "pull_policy" {
			return fmt.Sprintf("%q is not a pull policy", k.Got), pullPolicyRemedy
		}
		return fmt.Sprintf("%q has characters that are not possible here", k.Got), "it must match " + k.Want
	case *violated.Minimum:
		return "must not be less than " + k.Want.RatString(), ""
	case *violated.Maximum:
		return "must not be more than " + k.Want.RatString(), ""
	}
	return "is not what the Compose Specification allows here", ""
}

func typeWord(jsonType string) string {
	switch jsonType {
	case "object":
		return "a mapping"
	case "array":
		return "a list"
	case "null":
		return "empty"
	case "boolean":
		return "true or false"
	case "integer":
		return "a whole number"
	}
	return "a " + jsonType
}

// data is the tree as plain values, variables replaced, and text turned into numbers and booleans where Compose does.
// What can't be is reported.
func (t *tree) data(casts caster) (any, spec.Diagnostics) {
	d := &plain{casts: casts}
	return d.value(t.root, nil), d.findings
}

type plain struct {
	casts    caster
	findings spec.Diagnostics
}

func (d *plain) value(n *node, path []string) any {
	switch n.kind {
	case mapping:
		m := make(map[string]any, len(n.order))
		for _, key := range n.order {
			m[key] = d.value(n.fields[key], join(path, key))
		}
		return m
	case sequence:
		list := make([]any, len(n.items))
		for i, item := range n.items {
			list[i] = d.value(item, join(path, strconv.Itoa(i)))
		}
		return list
	case scalar:
		return d.scalar(n, path)
	}
	return nil
}

func (d *plain) scalar(n *node, path []string) any {
	switch n.tag {
	case "!!int":
		if i, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 0, strconv.IntSize); err == nil {
			return int(i) // as from YAML: compose-go takes no other for ulimits
		}
	case "!!float":
		if f, err := strconv.ParseFloat(n.text, 64); err == nil {
			return f
		}
	case "!!bool":
		return strings.EqualFold(n.text, "true")
	}
	text, err := n.interpolated()
	if err != nil {
		d.findings = append(d.findings, n.interpolationError(err, path))
		return n.text
	}
	value, err := d.casts.cast(text, path)
	if err != nil {
		d.findings = append(d.findings, n.diagnose(spec.Error, path, fmt.Sprintf("invalid value %q: %v", text, errors.Unwrap(err)), ""))
		return text
	}
	return value
}
