package bundle

import (
	"errors"
	"testing"

	"github.com/stack-run/stack/spec"
)

func TestUpdateTakesLimitsBack(t *testing.T) {
	limited := &spec.Service{Resources: spec.Resources{NanoCPUs: 1e9, Memory: 64 << 20, PIDs: 5}}
	r, _, err := UpdateResources(limited, host())
	if err != nil || *r.CPU.Quota != 100000 || *r.Memory.Limit != 64<<20 || *r.Pids.Limit != 5 {
		t.Errorf("limited: %s, %v", show(t, r), err)
	}
	r, _, err = UpdateResources(&spec.Service{}, host())
	if err != nil || *r.CPU.Quota != -1 || *r.CPU.Shares != 1024 || r.CPU.Cpus == "" || *r.Memory.Limit != -1 ||
		*r.Memory.Swap != -1 || *r.Memory.Reservation != -1 || *r.Pids.Limit != -1 || r.Devices != nil {
		t.Errorf("unlimited: %s, %v", show(t, r), err)
	}
	v2 := host()
	v2.CgroupV2 = true
	if r, _, err = UpdateResources(&spec.Service{}, v2); err != nil || r.Memory.Reservation != nil || r.Unified["memory.low"] != "0" {
		t.Errorf("unlimited, version 2: %s, %v", show(t, r), err)
	}
}

func TestWhatVersion2CannotDoIsLeftOutWithAWord(t *testing.T) {
	swappiness := int64(5)
	h := host()
	h.CgroupV2 = true
	s := &spec.Service{OOMKillDisable: true, Resources: spec.Resources{MemorySwappiness: &swappiness, CPURealtimeRuntime: 5}}
	r, warnings, err := Resources(s, h)
	if err != nil || len(warnings) != 3 || r.Memory.Swappiness != nil || r.Memory.DisableOOMKiller != nil || r.CPU.RealtimeRuntime != nil {
		t.Errorf("%s, %q, %v", show(t, r), warnings, err)
	}
}

func TestBlockLimitsNeedABlockDevice(t *testing.T) {
	s := &spec.Service{Resources: spec.Resources{BlkioWeight: 300, DeviceReadBps: []spec.ThrottleDevice{{Path: "/dev/loop0", Rate: 9}}}}
	r, _, err := Resources(s, host())
	if err != nil || *r.BlockIO.Weight != 300 || r.BlockIO.ThrottleReadBpsDevice[0].Major != 7 || r.BlockIO.ThrottleReadBpsDevice[0].Rate != 9 {
		t.Errorf("%s, %v", show(t, r), err)
	}
	s.Resources.DeviceReadBps[0].Path = "/dev/null"
	var attribute *AttributeError
	if _, _, err = Resources(s, host()); !errors.As(err, &attribute) || attribute.Attribute != "blkio_config.device_read_bps[0]" {
		t.Error(err)
	}
}
