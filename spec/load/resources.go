package load

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
)

// resources are mem_*, cpu_* and the like; what deploy.resources says counts more, as in Compose.
func (c *converter) resources(at []string, s types.ServiceConfig) spec.Resources {
	r := spec.Resources{
		NanoCPUs:           nanoCPUs(s.CPUS),
		CPUShares:          s.CPUShares,
		CPUQuota:           s.CPUQuota,
		CPUPeriod:          s.CPUPeriod,
		CPURealtimeRuntime: s.CPURTRuntime,
		CPURealtimePeriod:  s.CPURTPeriod,
		CPUSet:             s.CPUSet,
		Memory:             int64(s.MemLimit),
		MemoryReservation:  int64(s.MemReservation),
		MemorySwap:         int64(s.MemSwapLimit),
		PIDs:               s.PidsLimit,
	}
	if c.tree.root.get(join(at, "mem_swappiness")...) != nil { // 0 means something
		swappiness := int64(s.MemSwappiness)
		r.MemorySwappiness = &swappiness
	}
	if b := s.BlkioConfig; b != nil {
		r.BlkioWeight = b.Weight
		for _, w := range b.WeightDevice {
			r.BlkioWeightDevice = append(r.BlkioWeightDevice, spec.WeightDevice{Path: w.Path, Weight: w.Weight})
		}
		r.DeviceReadBps = throttles(b.DeviceReadBps)
		r.DeviceReadIOps = throttles(b.DeviceReadIOps)
		r.DeviceWriteBps = throttles(b.DeviceWriteBps)
		r.DeviceWriteIOps = throttles(b.DeviceWriteIOps)
	}
	if s.Deploy == nil {
		return r
	}
	if l := s.Deploy.Resources.Limits; l != nil {
		if l.NanoCPUs != 0 {
			r.NanoCPUs = nanoCPUs(float32(l.NanoCPUs))
		}
		if l.MemoryBytes != 0 {
			r.Memory = int64(l.MemoryBytes)
		}
		if l.Pids != 0 {
			r.PIDs = l.Pids
		}
	}
	if l := s.Deploy.Resources.Reservations; l != nil && l.MemoryBytes != 0 {
		r.MemoryReservation = int64(l.MemoryBytes)
	}
	return r
}

// nanoCPUs goes by the decimal digits: 0.3 as a float32 is a little more than 0.3.
func nanoCPUs(cpus float32) int64 {
	exact, err := strconv.ParseFloat(strconv.FormatFloat(float64(cpus), 'f', -1, 32), 64)
	if err != nil {
		return 0 // not a number: the schema has refused it
	}
	return int64(math.Round(exact * 1e9))
}

func throttles(devices []types.ThrottleDevice) []spec.ThrottleDevice {
	var all []spec.ThrottleDevice
	for _, d := range devices {
		all = append(all, spec.ThrottleDevice{Path: d.Path, Rate: uint64(d.Rate)})
	}
	return all
}

// checkModes checks the words that choose a namespace, and what can't go together with them.
func (c *converter) checkModes(at []string, s *spec.Service) {
	for _, m := range []struct {
		attribute, value string
		words            []string
		shared           bool // service: and container: are possible
	}{
		{"network_mode", s.NetworkMode, []string{"", "bridge", "host", "none"}, true},
		{"pid", s.PID, []string{"", "host"}, true},
		{"ipc", s.IPC, []string{"", "host", "none", "private", "shareable"}, true},
		{"uts", s.UTS, []string{"", "host"}, false},
		{"cgroup", s.Cgroup, []string{"", "host", "private"}, false},
		{"userns_mode", s.UsernsMode, []string{"", "host", "auto"}, false},
	} {
		prefix, name, found := strings.Cut(m.value, ":")
		if slices.Contains(m.words, m.value) || m.shared && found && name != "" && (prefix == "service" || prefix == "container") {
			continue
		}
		words := strings.Join(m.words[1:], ", ")
		if m.shared {
			words += ", service:<name> or container:<name>"
		}
		remedy := "use " + words
		if m.attribute == "network_mode" {
			remedy += "; a network goes under `networks`"
		}
		c.refuse(join(at, m.attribute), remedy, "invalid %s %q", m.attribute, m.value)
	}
	if len(s.Ports) == 0 {
		return
	}
	switch {
	case s.NetworkMode == "host":
		c.warn(join(at, "ports"), "", "published ports have no effect with network_mode: host, where all ports are the host's")
	case s.NetworkMode == "none":
		c.warn(join(at, "ports"), "", "published ports have no effect with network_mode: none")
	case strings.Contains(s.NetworkMode, ":"):
		c.refuse(join(at, "ports"), "publish them on the service whose network is shared", "a service can't publish ports with network_mode: %s", s.NetworkMode)
	}
}

// checkDeploy looks at the words of deploy that one machine has its own reading of.
func (c *converter) checkDeploy(at []string, s types.ServiceConfig) {
	if s.Deploy == nil {
		return
	}
	switch s.Deploy.Mode {
	case "", "replicated", "global": // global is one on each machine
	case "replicated-job", "global-job":
		if r := s.Deploy.RestartPolicy; r != nil && (r.Condition == "any" || r.Condition == spec.RestartAlways || r.Condition == spec.RestartUnlessStopped) {
			c.refuse(join(at, "deploy", "restart_policy", "condition"), "use none or on-failure", "a service with the mode %s ends: it can't be restarted whenever it does", s.Deploy.Mode)
		}
	default:
		c.warn(join(at, "deploy", "mode"), "", "the mode %q is for a swarm: the service runs as any other", s.Deploy.Mode)
	}
}

func (c *converter) checkPool(path []string, p spec.IPAMPool) {
	check := func(attribute, value string, ok bool) {
		if value != "" && !ok {
			c.refuse(join(path, attribute), "", "%q is not a valid %s", value, attribute)
		}
	}
	subnet, err := netip.ParsePrefix(p.Subnet)
	check("subnet", p.Subnet, err == nil)
	within := func(a netip.Addr) bool { return !subnet.IsValid() || subnet.Masked().Contains(a) }
	ipRange, err := netip.ParsePrefix(p.IPRange)
	check("ip_range", p.IPRange, err == nil && within(ipRange.Addr()))
	gateway, err := netip.ParseAddr(p.Gateway)
	check("gateway", p.Gateway, err == nil && within(gateway))
}
