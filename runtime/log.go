package runtime

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	units "github.com/docker/go-units"

	"github.com/stack-run/stack/runtime/logs"
	"github.com/stack-run/stack/runtime/shim"
)

// logConfig turns `logging:` and the host's defaults into what the shim writes.
func (e *Engine) logConfig(v View) (shim.Log, error) {
	log := shim.Log{Driver: "json-file", MaxSize: e.opts.LogMaxSize, MaxFiles: e.opts.LogMaxFiles}
	l := v.Spec.Logging
	if l != nil && l.Driver != "" {
		log.Driver = l.Driver
	}
	if log.Driver == "none" {
		return log, nil
	}
	log.Path = logPath(v)
	if l == nil {
		return log, nil
	}
	for option, value := range l.Options {
		var err error
		switch option {
		case "max-size":
			if log.MaxSize = 0; value != "-1" {
				log.MaxSize, err = units.RAMInBytes(value)
			}
		case "max-file":
			log.MaxFiles, err = strconv.Atoi(value)
		case "compress":
			log.Compress, err = strconv.ParseBool(value)
		case "labels":
			log.Attrs = addAttrs(log.Attrs, value, v.Labels)
		case "env":
			log.Attrs = addAttrs(log.Attrs, value, v.Spec.Environment)
		case "tag":
			var tag string
			if tag, err = logTag(value, v); err == nil && tag != "" {
				log.Attrs = addAttrs(log.Attrs, "tag", map[string]string{"tag": tag})
			}
		}
		if err != nil {
			return log, fmt.Errorf("logging.options.%s: %q: %w", option, value, err)
		}
	}
	return log, nil
}

// addAttrs adds those of values that a list of names, separated by commas, picks.
func addAttrs(attrs map[string]string, names string, values map[string]string) map[string]string {
	for name := range strings.SplitSeq(names, ",") {
		value, ok := values[strings.TrimSpace(name)]
		if !ok {
			continue
		}
		if attrs == nil {
			attrs = map[string]string{}
		}
		attrs[strings.TrimSpace(name)] = value
	}
	return attrs
}

// logTag is the `tag` of each line: a template with Docker's fields.
func logTag(text string, v View) (string, error) {
	t, err := template.New("tag").Option("missingkey=error").Parse(text)
	if err != nil {
		return "", err
	}
	short := func(id string) string { return fmt.Sprintf("%.12s", strings.TrimPrefix(id, "sha256:")) }
	var out strings.Builder
	err = t.Execute(&out, map[string]string{
		"ID": short(v.ID), "FullID": v.ID, "Name": v.Name, "ImageName": v.Image, "ImageID": short(v.ImageID), "ImageFullID": v.ImageID,
		"DaemonName": "stack",
	})
	return out.String(), err
}

// logName is the current file of a log.
const logName = "container.log"

func logPath(v View) string { return filepath.Join(v.Dir, "log", logName) }

// Logs reads a container's log, calling yield for each entry until it fails.
func (e *Engine) Logs(ctx context.Context, id string, opts logs.Options, yield func(logs.Entry) error) error {
	c, err := e.get(id)
	if err != nil {
		return err
	}
	v := c.View()
	if v.Spec.Logging != nil && v.Spec.Logging.Driver == "none" {
		return nil
	}
	return logs.Read(ctx, logPath(v), opts, yield)
}
