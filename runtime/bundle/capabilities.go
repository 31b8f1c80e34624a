package bundle

import (
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// defaultCapabilities are Docker's.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
	"CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// capabilities sets the process's capabilities; identity must have set its user.
func (b *builder) capabilities() error {
	caps, err := b.wanted()
	if err != nil {
		return err
	}
	// More than this process has can't be given. Where everything was asked for, what there is is everything.
	explicit := normalizeCapabilities(b.Service.CapAdd)
	caps = slices.DeleteFunc(caps, func(c string) bool {
		missing := !slices.Contains(b.Host.Capabilities, c)
		if missing && slices.Contains(explicit, c) {
			b.warn("cap_add: %s is left out, because Stack itself does not have it here", c)
		}
		return missing
	})
	set := &specs.LinuxCapabilities{Bounding: caps}
	if b.spec.Process.User.UID == 0 {
		// What execve would do: another user starts without any, and gains them by file capabilities or setuid only.
		set.Effective, set.Permitted = caps, caps
	}
	b.spec.Process.Capabilities = set
	return nil
}

// wanted works out privileged, cap_add and cap_drop as Docker does.
func (b *builder) wanted() ([]string, error) {
	if b.Service.Privileged {
		return knownCapabilities(), nil
	}
	add, drop := normalizeCapabilities(b.Service.CapAdd), normalizeCapabilities(b.Service.CapDrop)
	known := knownCapabilities()
	for _, list := range []struct {
		attribute string
		names     []string
	}{{"cap_add", add}, {"cap_drop", drop}} {
		for _, name := range list.names {
			if name != "ALL" && !slices.Contains(known, name) {
				return nil, invalid(list.attribute, "there is no capability %q", name)
			}
		}
	}
	var base []string
	switch {
	case slices.Contains(add, "ALL"):
		base = known
	case slices.Contains(drop, "ALL"):
		// only what cap_add names
	default:
		base = defaultCapabilities
	}
	caps := slices.DeleteFunc(slices.Clone(base), func(c string) bool { return slices.Contains(drop, c) })
	for _, c := range add {
		if c != "ALL" && !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

// normalizeCapabilities makes "net_admin" and "CAP_NET_ADMIN" the same; ALL stays as it is.
func normalizeCapabilities(names []string) []string {
	out := make([]string, 0, len(names))
	for _, name := range names {
		name = strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(name)), "CAP_")
		if name != "ALL" {
			name = "CAP_" + name
		}
		out = append(out, name)
	}
	return out
}

// knownCapabilities are all that the kernel's headers name.
func knownCapabilities() []string {
	list := capability.ListKnown()
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = "CAP_" + strings.ToUpper(c.String())
	}
	return names
}
