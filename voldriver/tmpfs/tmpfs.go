// Package tmpfs mounts memory that is gone with the container.
package tmpfs

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// Driver is the voldriver.Driver of mounts of type tmpfs.
type Driver struct{}

// opposites are the flags and what each takes back.
var opposites = map[string]string{
	"ro": "rw", "noexec": "exec", "nosuid": "suid", "nodev": "dev", "sync": "async", "noatime": "atime",
	"nodiratime": "diratime", "mand": "nomand", "relatime": "norelatime", "strictatime": "nostrictatime",
	"dirsync": "", "remount": "",
}

// values are the options with a value, and what it looks like.
var values = map[string]*regexp.Regexp{
	"size":      regexp.MustCompile(`^[0-9]+[kKmMgGtT%]?$`),
	"nr_blocks": regexp.MustCompile(`^[0-9]+[kKmMgG]?$`),
	"nr_inodes": regexp.MustCompile(`^[0-9]+[kKmMgG]?$`),
	"mode":      regexp.MustCompile(`^[0-7]{1,5}$`),
	"uid":       regexp.MustCompile(`^[0-9]{1,10}$`),
	"gid":       regexp.MustCompile(`^[0-9]{1,10}$`),
	"mpol":      regexp.MustCompile(`^[a-z0-9:,=-]+$`),
	"huge":      regexp.MustCompile(`^(never|always|within_size|advise)$`),
}

var propagations = []string{"private", "rprivate", "shared", "rshared", "slave", "rslave"}

// Check knows the options of tmpfs, for the short form.
func (Driver) Check(m spec.Mount) error {
	if m.Source != "" {
		return fmt.Errorf("%w: a tmpfs has no source", voldriver.ErrUnsupported)
	}
	if m.Size < 0 {
		return fmt.Errorf("%w: tmpfs size %d", voldriver.ErrUnsupported, m.Size)
	}
	for _, o := range m.Options {
		if !known(o) {
			return fmt.Errorf("%w: tmpfs option %q", voldriver.ErrUnsupported, o)
		}
	}
	return nil
}

func known(option string) bool {
	if name, value, ok := strings.Cut(option, "="); ok {
		pattern, ok := values[name]
		return ok && pattern.MatchString(value)
	}
	if slices.Contains(propagations, option) {
		return true
	}
	for flag, opposite := range opposites {
		if option == flag || option == opposite && opposite != "" {
			return true
		}
	}
	return false
}

// Prepare says how to mount it: Docker's hardening, unless the file takes it back ("exec").
func (Driver) Prepare(_ context.Context, r voldriver.Request) (voldriver.Mount, error) {
	m := r.Mount
	options := []string{"noexec", "nosuid", "nodev", "rprivate"}
	for _, o := range m.Options {
		options = add(options, o)
	}
	if m.Size > 0 {
		options = add(options, fmt.Sprintf("size=%d", m.Size))
	}
	if m.Mode != 0 {
		options = add(options, fmt.Sprintf("mode=%o", m.Mode))
	}
	if m.ReadOnly {
		options = add(options, "ro")
	}
	return voldriver.Mount{
		Type: "tmpfs", Source: "tmpfs", Destination: m.Target, Options: options, ReadOnly: slices.Contains(options, "ro"),
	}, nil
}

// add appends an option and takes out what it contradicts: the last word counts.
func add(options []string, option string) []string {
	name, _, valued := strings.Cut(option, "=")
	options = slices.DeleteFunc(options, func(have string) bool {
		switch {
		case have == option, opposites[have] == option && option != "", opposites[option] == have && have != "":
			return true
		case valued:
			return strings.HasPrefix(have, name+"=")
		default:
			return slices.Contains(propagations, have) && slices.Contains(propagations, option)
		}
	})
	return append(options, option)
}
