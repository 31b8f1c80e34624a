package server

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/stack-run/stack/runtime/shim"
)

// update changes limits. Device rules stay as they are.
func (s *Server) update(v shim.UpdateRequest) error {
	c, r, err := s.runOf(v.ID)
	if err != nil {
		return err
	}
	if v.Resources == nil {
		return shimError(shim.CodeInvalid, "update: resources are needed")
	}
	c.op.Lock()
	defer c.op.Unlock()
	if p, ok := r.engine.(*program); ok {
		return p.update(v.Resources)
	}
	config, err := specconv.CreateCgroupConfig(&specconv.CreateOpts{
		CgroupName: v.ID, Spec: &specs.Spec{Linux: &specs.Linux{Resources: v.Resources}},
	}, nil)
	if err != nil {
		return shimError(shim.CodeInvalid, "update: %v", err)
	}
	config.SkipDevices = true
	if c.paused() {
		config.Freezer = cgroups.Frozen
	}
	if err := r.cgroup.Set(config.Resources); err != nil {
		return shimError(shim.CodeInvalid, "update: %v", err)
	}
	return nil
}

// update lets the runtime change the limits: it may keep them in a virtual machine or a kernel of its own.
func (p *program) update(r *specs.LinuxResources) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(p.dir), "resources")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err2 := file.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	return p.run(nil, "update", "--resources", file.Name(), p.id)
}

// adjustLog changes how the log is kept from now on.
func (s *Server) adjustLog(v shim.LogRequest) error {
	_, r, err := s.runOf(v.ID)
	if err != nil {
		return err
	}
	return r.out.log.Adjust(logConfig(v.Log))
}
