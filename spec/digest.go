package spec

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Digest is a stable hash ("sha256:<hex>") of all that makes a new container necessary when it changes.
//
// Left out, because a change of it is no reason to recreate a container:
//   - how the service relates to others and how many there are: depends_on, scale, profiles
//   - what acts only on the next pull: pull_policy
//   - what the daemon does around a container and can do differently from now on: restart, healthcheck,
//     stop_signal, stop_grace_period, pre_stop, and whether `up` attaches to the log. pre_start and post_start count: what they did is
//     in the container.
//   - how containers are replaced: update_config, rollback_config; and whether their end is a success: deploy.mode
//   - labels and expose: they are part of the container's record, and updated there in place
//   - limits of resources, how the log is kept, networks, ports and name resolution: they are changed under the running
//     container, with some exceptions that a planner knows
//   - x-stack: how Stack keeps the service
//   - develop: what watch does with it
//   - the position in the stack file
//
// The contents of configs and secrets count through their digests, env files through the merged environment.
// The image counts by its reference only: a planner compares the image's own digest beside this one.
func (s *Service) Digest() string {
	sum := sha256.Sum256(mustJSON(s.container()))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// container is the service with only what its containers are made from.
func (s *Service) container() Service {
	c := *s
	c.DependsOn, c.Replicas, c.Profiles = nil, 0, nil
	c.PullPolicy, c.PullAge = "", 0
	c.Restart, c.Healthcheck, c.StopSignal, c.StopGrace, c.Attach = Restart{}, nil, "", nil, nil
	c.UpdateConfig, c.RollbackConfig, c.OneShot = nil, nil, false
	c.PreStop, c.PreStart = nil, slices.Clone(s.PreStart)
	for i := range c.PreStart {
		c.PreStart[i].Service = c.PreStart[i].container()
	}
	c.Labels, c.Expose = nil, nil
	c.Resources, c.Logging = Resources{}, nil
	c.Networks, c.Ports = nil, nil
	c.DNS, c.DNSSearch, c.DNSOpt, c.ExtraHosts = nil, nil, nil, nil
	c.Position = ""
	c.Policy, c.Develop = nil, nil
	return c
}

// mustJSON marshals the types of this package, which can't fail: they hold neither channels, functions nor cycles.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("spec: marshal %T: %v", v, err))
	}
	return b
}
