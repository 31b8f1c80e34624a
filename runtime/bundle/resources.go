package bundle

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/spec"
)

const (
	defaultShares = 1024
	cpuPeriod     = 100000  // microseconds, of a limit in cores
	minMemory     = 6 << 20 // bytes; below it a container's init can't start
	minQuota      = 1000    // microseconds, the kernel's
	unlimited     = int64(-1)
	swapMultiple  = 2 // memory plus swap, where the file limits memory only
)

func (b *builder) resources() error {
	r, warnings, err := Resources(b.Service, b.Host)
	b.spec.Linux.Resources = r
	b.bundle.Warnings = append(b.bundle.Warnings, warnings...)
	return err
}

// Resources are the cgroup limits of the service, without device rules: also for changing a running container's. Values are
// cgroup v1's, as the runtime-spec has them; runtimes convert. What this host's cgroups can't do is left out with a warning.
func Resources(s *spec.Service, h Host) (*specs.LinuxResources, []string, error) {
	out := &specs.LinuxResources{}
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }

	cpu, cpuErr := cpuLimits(s.Resources, h, warn)
	out.CPU = cpu
	memory, memErr := memoryLimits(s, h, warn)
	out.Memory = memory
	block, blockErr := blockLimits(s.Resources)
	out.BlockIO = block
	if pids := s.Resources.PIDs; pids > 0 {
		out.Pids = &specs.LinuxPids{Limit: &pids}
	}
	return out, warnings, errors.Join(cpuErr, memErr, blockErr)
}

// UpdateResources are the limits for a container that runs: like Resources, but what the service does not limit (any more)
// is set to unlimited, where leaving it out would keep the old limit. Block I/O weights and rates are not taken back.
func UpdateResources(s *spec.Service, h Host) (*specs.LinuxResources, []string, error) {
	r, warnings, err := Resources(s, h)
	if err != nil {
		return nil, warnings, err
	}
	if r.CPU.Shares == nil {
		r.CPU.Shares = ptr(uint64(defaultShares))
	}
	if r.CPU.Quota == nil {
		r.CPU.Quota = ptr(unlimited)
	}
	if r.CPU.Period == nil {
		r.CPU.Period = ptr(uint64(cpuPeriod))
	}
	if r.CPU.Cpus == "" {
		online, err := os.ReadFile("/sys/devices/system/cpu/online")
		if err != nil {
			return nil, warnings, err
		}
		r.CPU.Cpus = strings.TrimSpace(string(online))
	}
	if r.Pids == nil {
		r.Pids = &specs.LinuxPids{Limit: ptr(unlimited)}
	}
	// A limit below what is in use is refused, as cgroup v1 has it: version 2 would kill.
	r.Memory.CheckBeforeUpdate = ptr(true)
	if r.Memory.Limit == nil {
		r.Memory.Limit = ptr(unlimited)
	}
	if r.Memory.Swap == nil && h.SwapLimit {
		r.Memory.Swap = ptr(unlimited)
	}
	if r.Memory.Reservation == nil {
		if h.CgroupV2 { // here it is a protection, and "none" can't be said by the field
			r.Unified = map[string]string{"memory.low": "0"}
		} else {
			r.Memory.Reservation = ptr(unlimited)
		}
	}
	return r, warnings, nil
}

func cpuLimits(r spec.Resources, h Host, warn func(string, ...any)) (*specs.LinuxCPU, error) {
	cpu := &specs.LinuxCPU{Cpus: r.CPUSet}
	if r.CPUShares != 0 {
		if r.CPUShares < 2 {
			return nil, invalid("cpu_shares", "the least is 2")
		}
		cpu.Shares = ptr(uint64(r.CPUShares))
	}
	switch {
	case r.NanoCPUs < 0:
		return nil, invalid("cpus", "a number of cores is not negative")
	case r.NanoCPUs > 0 && (r.CPUQuota != 0 || r.CPUPeriod != 0):
		return nil, invalid("cpus", "cpus and cpu_quota or cpu_period are two ways to say the same; keep one")
	case r.NanoCPUs > 0:
		quota := r.NanoCPUs * cpuPeriod / 1e9
		if quota < minQuota {
			return nil, invalid("cpus", "the least is 0.01")
		}
		cpu.Period, cpu.Quota = ptr(uint64(cpuPeriod)), &quota
	default:
		if r.CPUPeriod != 0 {
			if r.CPUPeriod < 1000 || r.CPUPeriod > 1000000 {
				return nil, invalid("cpu_period", "a period is 1000 to 1000000 microseconds")
			}
			cpu.Period = ptr(uint64(r.CPUPeriod))
		}
		if r.CPUQuota != 0 {
			if r.CPUQuota > 0 && r.CPUQuota < minQuota {
				return nil, invalid("cpu_quota", "the least is %d microseconds", minQuota)
			}
			cpu.Quota = ptr(r.CPUQuota)
		}
	}
	if r.CPURealtimeRuntime != 0 || r.CPURealtimePeriod != 0 {
		if h.CgroupV2 {
			warn("cpu_rt_runtime and cpu_rt_period are left out: this host's cgroups (version 2) have no real-time limits")
		} else {
			if r.CPURealtimeRuntime != 0 {
				cpu.RealtimeRuntime = ptr(r.CPURealtimeRuntime)
			}
			if r.CPURealtimePeriod != 0 {
				cpu.RealtimePeriod = ptr(uint64(r.CPURealtimePeriod))
			}
		}
	}
	return cpu, nil
}

func memoryLimits(s *spec.Service, h Host, warn func(string, ...any)) (*specs.LinuxMemory, error) {
	r, m := s.Resources, &specs.LinuxMemory{}
	if r.Memory < 0 || r.Memory > 0 && r.Memory < minMemory {
		return nil, invalid("mem_limit", "the least is 6m")
	}
	if r.Memory > 0 {
		m.Limit = ptr(r.Memory)
	}
	if r.MemoryReservation != 0 {
		if r.Memory > 0 && r.MemoryReservation > r.Memory {
			return nil, invalid("mem_reservation", "%d is more than the limit %d", r.MemoryReservation, r.Memory)
		}
		m.Reservation = ptr(r.MemoryReservation)
	}
	swap := r.MemorySwap
	switch {
	case swap > 0 && r.Memory == 0:
		return nil, invalid("memswap_limit", "it is the sum of memory and swap, so it needs mem_limit")
	case swap > 0 && swap < r.Memory:
		return nil, invalid("memswap_limit", "it is the sum of memory and swap: %d is less than mem_limit %d", swap, r.Memory)
	case swap < -1:
		return nil, invalid("memswap_limit", "it is -1 (unlimited) or a size")
	case swap == 0 && r.Memory > 0:
		swap = r.Memory * swapMultiple
	}
	if swap != 0 && h.SwapLimit {
		m.Swap = ptr(swap)
	} else if r.MemorySwap != 0 && !h.SwapLimit {
		warn("memswap_limit is left out: this host does not account swap to cgroups")
	}
	if v := r.MemorySwappiness; v != nil && *v != -1 {
		switch {
		case *v < 0 || *v > 100:
			return nil, invalid("mem_swappiness", "it goes from 0 to 100")
		case h.CgroupV2:
			warn("mem_swappiness is left out: this host's cgroups (version 2) don't have it")
		default:
			m.Swappiness = ptr(uint64(*v))
		}
	}
	if s.OOMKillDisable {
		if h.CgroupV2 {
			warn("oom_kill_disable is left out: this host's cgroups (version 2) don't have it")
		} else {
			m.DisableOOMKiller = ptr(true)
		}
	}
	return m, nil
}

func blockLimits(r spec.Resources) (*specs.LinuxBlockIO, error) {
	if r.BlkioWeight == 0 && len(r.BlkioWeightDevice)+len(r.DeviceReadBps)+len(r.DeviceReadIOps)+len(r.DeviceWriteBps)+len(r.DeviceWriteIOps) == 0 {
		return nil, nil
	}
	b := &specs.LinuxBlockIO{}
	if w := r.BlkioWeight; w != 0 {
		if w < 10 || w > 1000 {
			return nil, invalid("blkio_config.weight", "it goes from 10 to 1000")
		}
		b.Weight = &w
	}
	for i, d := range r.BlkioWeightDevice {
		major, minor, err := blockDevice(fmt.Sprintf("blkio_config.weight_device[%d]", i), d.Path)
		if err != nil {
			return nil, err
		}
		w := specs.LinuxWeightDevice{Weight: ptr(d.Weight)}
		w.Major, w.Minor = major, minor
		b.WeightDevice = append(b.WeightDevice, w)
	}
	for _, list := range []struct {
		attribute string
		in        []spec.ThrottleDevice
		out       *[]specs.LinuxThrottleDevice
	}{
		{"device_read_bps", r.DeviceReadBps, &b.ThrottleReadBpsDevice},
		{"device_read_iops", r.DeviceReadIOps, &b.ThrottleReadIOPSDevice},
		{"device_write_bps", r.DeviceWriteBps, &b.ThrottleWriteBpsDevice},
		{"device_write_iops", r.DeviceWriteIOps, &b.ThrottleWriteIOPSDevice},
	} {
		for i, d := range list.in {
			major, minor, err := blockDevice(fmt.Sprintf("blkio_config.%s[%d]", list.attribute, i), d.Path)
			if err != nil {
				return nil, err
			}
			t := specs.LinuxThrottleDevice{Rate: d.Rate}
			t.Major, t.Minor = major, minor
			*list.out = append(*list.out, t)
		}
	}
	return b, nil
}

// blockDevice looks up the numbers of a block device of the host.
func blockDevice(attribute, path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, invalid(attribute, "%w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, invalid(attribute, "%s is not a block device", path)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}

func ptr[T any](v T) *T { return &v }
