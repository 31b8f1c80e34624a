package load

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/format"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/distribution/reference"
	"github.com/docker/go-units"

	"github.com/stack-run/stack/spec"
)

// valueChecks are for text that the schema takes as any string. They run when a load failed, to find what else is
// wrong; compose-go has the say on what is right.
var valueChecks = []struct {
	path   string
	check  func(text string) error
	remedy string
}{
	{imagePath, checkImage, "write name:tag, as in nginx:alpine"},
	{"services.*.ports.[]", checkPort, `write "host:container", as in "8080:80"`},
	{"services.*.ports.[].host_ip", checkIP, ""},
	{"services.*.volumes.[]", checkVolume, "write source:target, as in data:/var/lib/data"},
	{"services.*.healthcheck.interval", checkDuration, durationRemedy},
	{"services.*.healthcheck.timeout", checkDuration, durationRemedy},
	{"services.*.healthcheck.start_period", checkDuration, durationRemedy},
	{"services.*.healthcheck.start_interval", checkDuration, durationRemedy},
	{"services.*.stop_grace_period", checkDuration, durationRemedy},
	{"services.*.deploy.restart_policy.delay", checkDuration, durationRemedy},
	{"services.*.deploy.restart_policy.window", checkDuration, durationRemedy},
	{"services.*.deploy.update_config.delay", checkDuration, durationRemedy},
	{"services.*.deploy.update_config.monitor", checkDuration, durationRemedy},
	{"services.*.deploy.update_config.parallelism", checkCount, countRemedy},
	{"services.*.deploy.rollback_config.parallelism", checkCount, countRemedy},
	{"services.*.deploy.rollback_config.delay", checkDuration, durationRemedy},
	{"services.*.deploy.rollback_config.monitor", checkDuration, durationRemedy},
	{"services.*.mem_limit", checkSize, sizeRemedy},
	{"services.*.mem_reservation", checkSize, sizeRemedy},
	{"services.*.memswap_limit", checkSize, sizeRemedy},
	{"services.*.shm_size", checkSize, sizeRemedy},
	{"services.*.deploy.resources.limits.memory", checkSize, sizeRemedy},
	{"services.*.deploy.resources.reservations.memory", checkSize, sizeRemedy},
	{"services.*.volumes.[].tmpfs.size", checkSize, sizeRemedy},
}

const (
	imagePath      = "services.*.image"
	durationRemedy = "write it like 1m30s"
	sizeRemedy     = "write it like 512m or 2gb"
	countRemedy    = "use the number of containers to replace at a time, or 0 for all at once"
)

// values checks what is written at the paths above, list entries in their short form. An observer needs no image.
func (t *tree) values(observing bool) spec.Diagnostics {
	var findings spec.Diagnostics
	for _, c := range valueChecks {
		if observing && c.path == imagePath {
			continue
		}
		t.root.each(strings.Split(c.path, "."), nil, func(n *node, path []string) {
			if n.kind != scalar {
				return
			}
			text, err := n.interpolated()
			if err != nil {
				return // reported already
			}
			if err := c.check(text); err != nil {
				findings = append(findings, n.diagnose(spec.Error, path, fmt.Sprintf("invalid value %q: %v", text, err), c.remedy))
			}
		})
	}
	return findings
}

// each calls f for what is at a path with * and [].
func (n *node) each(pattern, path []string, f func(n *node, path []string)) {
	if len(pattern) == 0 {
		f(n, path)
		return
	}
	switch pattern[0] {
	case "*":
		for _, key := range n.order {
			n.fields[key].each(pattern[1:], join(path, key), f)
		}
	case "[]":
		for i, item := range n.items {
			item.each(pattern[1:], join(path, fmt.Sprint(i)), f)
		}
	default:
		if next := n.field(pattern[0]); next != nil {
			next.each(pattern[1:], join(path, pattern[0]), f)
		}
	}
}

func checkImage(text string) error {
	if text == "" {
		return nil // said better by references
	}
	_, err := reference.ParseDockerRef(text)
	return err
}

func checkPort(text string) error {
	_, err := types.ParsePortConfig(text)
	return err
}

func checkVolume(text string) error {
	_, err := format.ParseVolume(text)
	return err
}

func checkDuration(text string) error {
	var d types.Duration
	if _, err := time.ParseDuration(text); err == nil {
		return nil
	}
	return d.DecodeMapstructure(text) // takes days and weeks, too
}

func checkSize(text string) error {
	if text == "-1" {
		return nil
	}
	_, err := units.RAMInBytes(text)
	return err
}

func checkCount(text string) error {
	if n, err := strconv.Atoi(text); err == nil && n < 0 {
		return fmt.Errorf("it can't be negative")
	}
	return nil // what is no number is said by the schema
}

func checkIP(text string) error {
	if net.ParseIP(text) == nil {
		return fmt.Errorf("not an IP address")
	}
	return nil
}
