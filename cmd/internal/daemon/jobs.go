package daemon

import (
	"context"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/reconciler"
)

func (b *backend) Jobs(_ context.Context, stack string) ([]api.Job, error) {
	out := []api.Job{}
	for _, s := range b.reconciler.Jobs(stack) {
		j := api.Job{Name: s.Spec.Name, Manual: s.Spec.AllowsManual(), Suspended: s.Suspended}
		for i, schedule := range s.Spec.Triggers.Schedule {
			shown := api.JobSchedule{Cron: schedule.Cron, Timezone: schedule.Timezone}
			if i < len(s.Next) {
				shown.Next = s.Next[i]
			}
			j.Schedules = append(j.Schedules, shown)
		}
		for _, run := range s.Runs {
			j.Runs = append(j.Runs, jobRun(run))
		}
		out = append(out, j)
	}
	return out, nil
}

func jobRun(run reconciler.Run) api.JobRun {
	return api.JobRun{
		Number: run.Number, Due: run.Fire, Asked: run.Asked, State: string(run.State), Attempt: run.Attempt, Container: run.Container,
		Started: run.Started, Finished: run.Finished, RetryAt: run.RetryAt, ExitCode: run.ExitCode, Error: run.Error,
		Skipped: run.Skipped, Missed: run.Missed, Over: run.Over(),
	}
}

func (b *backend) RunJob(ctx context.Context, stack, job string) (int, error) {
	number, err := b.reconciler.RunJob(stack, job)
	if err != nil {
		return 0, b.failure(ctx, err)
	}
	return number, nil
}

func (b *backend) WaitJobRun(ctx context.Context, stack, job string, number, after int) (api.JobRun, error) {
	run, err := b.reconciler.WaitRun(ctx, stack, job, number, after)
	if err != nil {
		return api.JobRun{}, b.failure(ctx, err)
	}
	return jobRun(run), nil
}
