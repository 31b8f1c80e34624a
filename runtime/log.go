package runtime

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

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
			log.MaxSize, err = units.RAMInBytes(value)
		case "max-file":
			log.MaxFiles, err = strconv.Atoi(value)
		case "compress":
			log.Compress, err = strconv.ParseBool(value)
		}
		if err != nil {
			return log, fmt.Errorf("logging.options.%s: %q: %w", option, value, err)
		}
	}
	return log, nil
}

func logPath(v View) string { return filepath.Join(v.Dir, "log", "container.log") }

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
