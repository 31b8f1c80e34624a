package bundle

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/devices"
	"github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/spec"
)

// devices gives the container its devices, and its cgroup the right to use them. Runtimes add the harmless ones that every
// container has (null, zero, full, random, urandom, tty, ptmx, pts, console).
func (b *builder) devices() error {
	if b.Service.Privileged {
		b.allow(specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"})
		all, err := devices.HostDevices()
		if err != nil {
			return fmt.Errorf("list the host's devices: %w", err)
		}
		for _, d := range all {
			b.addDevice(d, d.Path)
		}
	} else {
		b.allow(specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"})
	}
	for i, d := range b.Service.Devices {
		if err := b.device(fmt.Sprintf("devices[%d]", i), d); err != nil {
			return err
		}
	}
	for i, text := range b.Service.DeviceCgroupRules {
		rule, err := parseDeviceRule(text)
		if err != nil {
			return &AttributeError{fmt.Sprintf("device_cgroup_rules[%d]", i), err}
		}
		b.allow(rule)
	}
	return nil
}

func (b *builder) allow(rule specs.LinuxDeviceCgroup) {
	if b.spec.Linux.Resources == nil {
		b.spec.Linux.Resources = &specs.LinuxResources{}
	}
	b.spec.Linux.Resources.Devices = append(b.spec.Linux.Resources.Devices, rule)
}

// device gives one device of the host, or all below a folder.
func (b *builder) device(attribute string, d spec.Device) error {
	permissions, target := d.Permissions, d.Target
	if permissions == "" {
		permissions = "rwm"
	}
	if strings.Trim(permissions, "rwm") != "" {
		return invalid(attribute, "permissions %q are not made of r, w and m", permissions)
	}
	if target == "" {
		target = d.Source
	}
	if !path.IsAbs(target) {
		return invalid(attribute, "%q is not an absolute path", target)
	}
	source, err := filepath.EvalSymlinks(d.Source) // /dev/serial/by-id/... are links
	if err != nil {
		return invalid(attribute, "this host has no %s", d.Source)
	}
	found, err := devicesAt(source)
	if err != nil {
		return invalid(attribute, "%s: %w", d.Source, err)
	}
	for _, dev := range found {
		dev.Permissions = config.Permissions(permissions)
		b.addDevice(dev, path.Join(target, strings.TrimPrefix(dev.Path, source)))
		b.allow(specs.LinuxDeviceCgroup{
			Allow: true, Type: string(dev.Type), Major: ptr(dev.Major), Minor: ptr(dev.Minor), Access: permissions,
		})
	}
	return nil
}

func devicesAt(source string) ([]*config.Device, error) {
	d, err := devices.DeviceFromPath(source, "rwm")
	if err == nil {
		return []*config.Device{d}, nil
	}
	if !errors.Is(err, devices.ErrNotADevice) {
		return nil, err
	}
	if st, statErr := os.Stat(source); statErr != nil || !st.IsDir() {
		return nil, err
	}
	found, err := devices.GetDevices(source)
	if err == nil && len(found) == 0 {
		err = errors.New("no devices below this folder")
	}
	return found, err
}

func (b *builder) addDevice(d *config.Device, target string) {
	if slices.ContainsFunc(b.spec.Linux.Devices, func(have specs.LinuxDevice) bool { return have.Path == target }) {
		return
	}
	b.spec.Linux.Devices = append(b.spec.Linux.Devices, specs.LinuxDevice{
		Path: target, Type: string(d.Type), Major: d.Major, Minor: d.Minor,
		FileMode: ptr(d.FileMode), UID: ptr(d.Uid), GID: ptr(d.Gid),
	})
}

var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// parseDeviceRule reads "c 1:3 mr", "a 7:* rmw".
func parseDeviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRule.FindStringSubmatch(text)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, fmt.Errorf("%w: %q is not of the form \"c 1:3 rwm\"", ErrInvalid, text)
	}
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
	for _, part := range []struct {
		text string
		to   **int64
	}{{m[2], &rule.Major}, {m[3], &rule.Minor}} {
		if part.text == "*" {
			continue
		}
		n, err := strconv.ParseUint(part.text, 10, 32)
		if err != nil {
			return specs.LinuxDeviceCgroup{}, fmt.Errorf("%w: %q: device number out of range", ErrInvalid, text)
		}
		*part.to = ptr(int64(n))
	}
	return rule, nil
}
