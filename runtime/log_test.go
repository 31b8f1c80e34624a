package runtime

import (
	"maps"
	"testing"

	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

func TestLogOptions(t *testing.T) {
	e := &Engine{opts: Options{LogMaxSize: 50 << 20, LogMaxFiles: 5}}
	v := View{Record: Record{
		ID: "0123456789abcdef", Name: "demo-web-1", Image: "nginx", Labels: map[string]string{"team": "blue"},
		Spec: spec.Service{Environment: map[string]string{"LEVEL": "info"}},
	}}
	for situation, c := range map[string]struct {
		logging *spec.Logging
		want    shim.Log
	}{
		"nothing said takes the host's": {nil, shim.Log{Driver: "json-file", MaxSize: 50 << 20, MaxFiles: 5}},
		"sizes": {
			&spec.Logging{Driver: "local", Options: map[string]string{"max-size": "10k", "max-file": "3", "compress": "true"}},
			shim.Log{Driver: "local", MaxSize: 10 << 10, MaxFiles: 3, Compress: true},
		},
		"no limit": {&spec.Logging{Options: map[string]string{"max-size": "-1"}}, shim.Log{Driver: "json-file", MaxFiles: 5}},
		"attributes of each line": {
			&spec.Logging{Options: map[string]string{"labels": "team, none", "env": "LEVEL", "tag": "{{.Name}}/{{.ID}}"}},
			shim.Log{Driver: "json-file", MaxSize: 50 << 20, MaxFiles: 5, Attrs: map[string]string{"team": "blue", "LEVEL": "info", "tag": "demo-web-1/0123456789ab"}},
		},
	} {
		v.Spec.Logging = c.logging
		got, err := e.logConfig(v)
		if err != nil {
			t.Errorf("%s: %v", situation, err)
			continue
		}
		got.Path = ""
		if !maps.Equal(got.Attrs, c.want.Attrs) {
			t.Errorf("%s: attributes %v, want %v", situation, got.Attrs, c.want.Attrs)
		}
		got.Attrs, c.want.Attrs = nil, nil
		if got.Driver != c.want.Driver || got.MaxSize != c.want.MaxSize || got.MaxFiles != c.want.MaxFiles || got.Compress != c.want.Compress {
			t.Errorf("%s: %+v, want %+v", situation, got, c.want)
		}
	}
	v.Spec.Logging = &spec.Logging{Options: map[string]string{"tag": "{{.Nobody}}"}}
	if got, err := e.logConfig(v); err == nil {
		t.Errorf("a tag with an unknown field gave %+v", got)
	}
}
