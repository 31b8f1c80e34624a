package daemon

import (
	"context"
	"slices"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler"
)

// healthProbe is one result as the API has it.
func healthProbe(p reconciler.Probe) api.HealthProbe {
	out := api.HealthProbe{Start: p.Start, End: p.End, ExitCode: p.ExitCode, Output: p.Output}
	if p.Failure != "" {
		out.ExitCode, out.Output = -1, p.Failure // as Docker does
	}
	return out
}

// Health tells of the health checks of a stack's containers, of all services or of those named.
func (b *backend) Health(_ context.Context, stack string, services []string) ([]api.ContainerHealth, error) {
	out := []api.ContainerHealth{}
	for _, s := range b.reconciler.Containers(stack) {
		if len(services) > 0 && !slices.Contains(services, s.Service) {
			continue
		}
		probes, streak, err := b.reconciler.History(s.ID)
		if err != nil {
			continue // removed meanwhile
		}
		h := api.ContainerHealth{
			ID: s.ID, Name: s.Name, Service: s.Service, Replica: s.Replica, State: s.State, Status: s.Health, FailingStreak: streak,
			Restarts: s.Ailing, NextTry: s.NextTry,
		}
		if s.State != planner.Running && s.State != planner.Paused {
			h.Status = "" // that of a run that is over
		}
		for _, p := range probes {
			h.Log = append(h.Log, healthProbe(p))
		}
		out = append(out, h)
	}
	return out, nil
}
