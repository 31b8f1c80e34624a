package spec

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rollout is how the containers of a service are replaced: deploy.update_config, or rollback_config for the way back.
type Rollout struct {
	Parallelism     int           `json:"parallelism"` // containers at a time; 0 is all at once
	Delay           time.Duration `json:"delay,omitempty"`
	FailureAction   string        `json:"failure_action"` // pause, continue or rollback
	Monitor         time.Duration `json:"monitor"`        // how long a new container has to stay good
	MaxFailureRatio float64       `json:"max_failure_ratio,omitempty"`
	// Order is start-first, stop-first, or empty where the file does not say: then it is stop-first, unless x-stack asks
	// for what is safe.
	Order string `json:"order,omitempty"`
}

// Orders of a rollout.
const (
	StartFirst = "start-first"
	StopFirst  = "stop-first"
)

// What a rollout does when more of its containers failed than may.
const (
	Pause    = "pause"
	Continue = "continue"
	Rollback = "rollback"
)

// Endpoint modes: what a service's name stands for inside networks.
const (
	VIP   = "vip"   // one virtual address, balanced over the containers
	DNSRR = "dnsrr" // the containers' addresses; the default
)

// DefaultMonitor is how long a new container is watched where update_config doesn't say, as in Docker.
const DefaultMonitor = 5 * time.Second

// Single says of what the service has only one, so that two of its containers can't run at the same time; empty when they
// can. Host ports are none of it: containers of one service share them.
func (s *Service) Single() string {
	for _, key := range slices.Sorted(maps.Keys(s.Networks)) {
		a := s.Networks[key]
		switch {
		case a == nil:
		case a.IPv4 != "" || a.IPv6 != "":
			return "its address on the network " + key + " is fixed"
		case a.MacAddress != "":
			return "its mac_address on the network " + key + " is fixed"
		}
	}
	if s.MacAddress != "" {
		return "its mac_address is fixed"
	}
	return ""
}

// Choices is how many host ports the port can be published on: 1 for a fixed one, more for a range, 0 where the host
// chooses.
func (p Port) Choices() int {
	low, high, isRange := strings.Cut(p.Published, "-")
	a, err := strconv.Atoi(low)
	if err != nil {
		return 0
	}
	if !isRange {
		return 1
	}
	b, err := strconv.Atoi(high)
	if err != nil {
		return 0
	}
	return b - a + 1
}
