package server

import (
	"reflect"
	"slices"
	"sync"

	"github.com/opencontainers/runc/libcontainer/configs"
)

// profiles are the seccomp profiles in use. Most containers of a stack have the same one, some 50 KiB in memory: libcontainer
// keeps a container's configuration for as long as it runs.
var profiles struct {
	sync.Mutex
	list []*configs.Seccomp
}

// maxProfiles bounds what is remembered; more are rarely met, and each then has its own copy.
const maxProfiles = 8

// internSeccomp returns an equal profile that is in use already, if there is one.
func internSeccomp(p *configs.Seccomp) *configs.Seccomp {
	if p == nil {
		return nil
	}
	profiles.Lock()
	defer profiles.Unlock()
	for _, known := range profiles.list {
		if reflect.DeepEqual(known, p) {
			return known
		}
	}
	if len(profiles.list) < maxProfiles {
		profiles.list = append(profiles.list, p)
	}
	return p
}

// interned tells whether a profile is the one that all containers with an equal one have.
func interned(p *configs.Seccomp) bool {
	profiles.Lock()
	defer profiles.Unlock()
	return slices.Contains(profiles.list, p)
}
