package bundle

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/profiles/seccomp"
)

// security is a parsed security_opt.
type security struct {
	noNewPrivileges bool
	seccomp         string // "" and "builtin" are the default profile; unconfined; or a file
	apparmor        string // "" is the default profile; unconfined; or a profile's name
	unmasked        bool   // systempaths=unconfined
	writableCgroups bool
}

// parseSecurityOpts reads the forms Docker takes: "no-new-privileges", "key=value" and the older "key:value".
func parseSecurityOpts(opts []string) (security, error) {
	var s security
	for i, opt := range opts {
		attribute := fmt.Sprintf("security_opt[%d]", i)
		key, value, ok := strings.Cut(opt, "=")
		if !ok {
			key, value, ok = strings.Cut(opt, ":")
		}
		if !ok && key != "no-new-privileges" {
			return s, invalid(attribute, "%q is not of the form key=value", opt)
		}
		switch key {
		case "no-new-privileges":
			on, err := strconv.ParseBool(value)
			if ok && err != nil {
				return s, invalid(attribute, "%q is not true or false", value)
			}
			s.noNewPrivileges = on || !ok
		case "writable-cgroups":
			on, err := strconv.ParseBool(value)
			if err != nil {
				return s, invalid(attribute, "%q is not true or false", value)
			}
			s.writableCgroups = on
		case "seccomp":
			if value == "" {
				return s, invalid(attribute, "seccomp needs unconfined, builtin or the path of a profile")
			}
			s.seccomp = value
		case "apparmor":
			s.apparmor = value
		case "systempaths":
			if value != "unconfined" {
				return s, invalid(attribute, "systempaths can only be unconfined")
			}
			s.unmasked = true
		case "label":
			// SELinux labels mean nothing on a host without SELinux, where Docker ignores them too.
		default:
			return s, invalid(attribute, "there is no security option %q", key)
		}
	}
	return s, nil
}

// maskedPaths and readonlyPaths are Docker's.
var maskedPaths = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
	"/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
}

var readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}

// throttles tell the temperature of each core, where the processor has that: enough to spy on other containers by.
var throttles = sync.OnceValue(func() []string {
	found, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle") // the pattern is valid
	return found
})

// confine sets what keeps the container from the host: masked paths, AppArmor and seccomp.
func (b *builder) confine() error {
	if !b.Service.Privileged && !b.security.unmasked {
		b.spec.Linux.MaskedPaths, b.spec.Linux.ReadonlyPaths = slices.Concat(maskedPaths, throttles()), readonlyPaths
	}
	b.setAppArmor()
	return b.setSeccomp()
}

func (b *builder) setAppArmor() {
	profile := b.security.apparmor
	switch {
	case b.Host.AppArmor == "":
		if profile != "" && profile != "unconfined" {
			b.warn("security_opt: apparmor=%s has no effect, because this host has no AppArmor", profile)
		}
		return
	case profile == "" && b.Service.Privileged:
		profile = "unconfined"
	case profile == "":
		profile = b.Host.AppArmor
	}
	b.spec.Process.ApparmorProfile = profile
}

func (b *builder) setSeccomp() error {
	profile := b.security.seccomp
	if profile == "" && b.Service.Privileged {
		profile = "unconfined"
	}
	if profile == "unconfined" {
		return nil
	}
	if !b.Host.Seccomp {
		if profile != "" {
			return unsupported("security_opt", "this kernel can't filter system calls (seccomp)")
		}
		return nil
	}
	var err error
	if profile == "" || profile == "builtin" {
		b.spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(b.spec)
		if err != nil {
			return fmt.Errorf("default seccomp profile: %w", err)
		}
		return nil
	}
	if !filepath.IsAbs(profile) {
		profile = filepath.Join(b.WorkingDir, profile)
	}
	text, err := os.ReadFile(profile)
	if err != nil {
		return invalid("security_opt", "seccomp profile: %w", err)
	}
	b.spec.Linux.Seccomp, err = seccomp.LoadProfile(string(text), b.spec)
	if err != nil {
		return invalid("security_opt", "seccomp profile %s: %w", profile, err)
	}
	return nil
}
