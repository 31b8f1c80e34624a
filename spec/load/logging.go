package load

import (
	"maps"
	"slices"
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/go-units"

	"github.com/stack-run/stack/spec"
)

// logOptions are the options of log drivers that are honoured, with what their values must be; nil takes any.
var logOptions = map[string]struct {
	valid func(string) bool
	want  string
}{
	"max-size": {isLogSize, "a size such as 10m, or -1 for no limit"},
	"max-file": {isPositive, "a number from 1"},
	"compress": {isBool, "true or false"},
	"mode":     {func(s string) bool { return s == "blocking" }, "blocking, or nothing"},
	"labels":   {nil, ""},
	"env":      {nil, ""},
	"tag":      {nil, ""},
}

func isLogSize(s string) bool {
	size, err := units.RAMInBytes(s)
	return s == "-1" || err == nil && size > 0
}

func isPositive(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0
}

func isBool(s string) bool {
	_, err := strconv.ParseBool(s)
	return err == nil
}

// logging checks the log driver and its options.
func (c *converter) logging(at []string, l *types.LoggingConfig) *spec.Logging {
	if l == nil || l.Driver == "" && len(l.Options) == 0 {
		return nil
	}
	switch l.Driver {
	case "", "json-file", "local":
	case "none":
		return &spec.Logging{Driver: l.Driver} // Docker takes any options here, and uses none
	default:
		c.refuse(join(at, "logging", "driver"), "use json-file, local or none", "the log driver %q is not supported yet", l.Driver)
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(l.Options)) {
		path := join(at, "logging", "options", name)
		option, known := logOptions[name]
		switch {
		case !known:
			c.refuse(path, "use max-size, max-file, compress, labels, env or tag", "the log option %q is not supported", name)
		case option.valid != nil && !option.valid(l.Options[name]):
			c.refuse(path, "use "+option.want, "invalid value %q", l.Options[name])
		}
	}
	return &spec.Logging{Driver: l.Driver, Options: l.Options}
}
