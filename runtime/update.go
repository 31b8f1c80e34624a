package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/stack-run/stack/runtime/bundle"
	"github.com/stack-run/stack/runtime/shim"
	"github.com/stack-run/stack/spec"
)

// SetLimits gives a running container the limits of a service, all of them: what the service does not limit is unlimited
// from now on. When one is refused (less memory than is in use, a processor that is not there), those of its record are
// put back. It returns what this host can't do.
func (e *Engine) SetLimits(ctx context.Context, id string, svc *spec.Service) (warnings []string, err error) {
	s, v, err := e.running(ctx, id)
	if err != nil {
		return nil, err
	}
	wanted, warnings, err := bundle.UpdateResources(svc, e.host)
	if err != nil {
		return nil, fmt.Errorf("limits of container %s: %w", v.Name, err)
	}
	if svc.Resources.CPUSet == "" && v.Spec.Resources.CPUSet == "" && !v.Updating {
		wanted.CPU.Cpus = "" // it has those of the cgroup above it, which may be less than all
	}
	if err = s.client.Update(ctx, id, wanted); err == nil {
		return warnings, nil
	}
	err = fmt.Errorf("limits of container %s: %w; the old ones stay", v.Name, err)
	old, _, back := bundle.UpdateResources(&v.Spec, e.host)
	if back == nil {
		back = s.client.Update(ctx, id, old)
	}
	if back != nil {
		err = errors.Join(err, fmt.Errorf("put the old ones back: %w", back))
	}
	return nil, err
}

// SetLog keeps the log of a running container as a service and the container's labels say from now on. A shim that was
// started by an older Stack does not know the request: then it is so from the container's next start on.
func (e *Engine) SetLog(ctx context.Context, id string, svc *spec.Service, labels map[string]string) error {
	s, v, err := e.running(ctx, id)
	if err != nil {
		return err
	}
	v.Spec, v.Labels = *svc, labels
	log, err := e.logConfig(v)
	if err == nil {
		err = s.client.Log(ctx, id, log)
	}
	if err != nil && !errors.Is(err, shim.ErrInvalid) {
		return fmt.Errorf("log of container %s: %w", v.Name, err)
	}
	return nil
}

// NetworkInput is what of a running container's network came out of a change.
type NetworkInput struct {
	StartInput
	Keep []string // addresses of ports that it goes on holding: see shim.NetworkRequest
}

// SetNetwork lets the shim of a running container hold its ports and answer its names as they are by now, and writes its
// hosts and resolv.conf anew, as a service says.
func (e *Engine) SetNetwork(ctx context.Context, id string, svc *spec.Service, in NetworkInput) error {
	s, v, err := e.running(ctx, id)
	if err != nil {
		return err
	}
	v.Spec = *svc
	req := shim.NetworkRequest{ID: id, Keep: in.Keep, Forwards: in.Forwards, DNS: in.DNS}
	err = s.client.Network(ctx, req, in.Held...)
	if errors.Is(err, shim.ErrInvalid) {
		err = fmt.Errorf("%w; the shim was started by an older Stack: make the container anew (up --force-recreate)", err)
	}
	if err != nil {
		return fmt.Errorf("network of container %s: %w", v.Name, err)
	}
	files := bundle.Input{Service: &v.Spec, ID: v.ID, Name: v.Name, Dir: v.Dir, Host: e.host}
	files.UIDs, files.GIDs = e.idMaps(&v.Record)
	if files.Network, err = e.bundleNetwork(v, in.StartInput); err == nil {
		err = bundle.WriteNetworkFiles(files)
	}
	if err != nil {
		return fmt.Errorf("network files of container %s: %w", v.Name, err)
	}
	return nil
}
