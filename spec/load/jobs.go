package load

import (
	"maps"
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/spec/schedule"
)

// serviceOnly are the attributes of a service that a job has not, in the specification's words: what keeps many containers
// running.
var serviceOnly = []string{
	"attach", "container_name", "deploy", "develop", "extends", "external_links", "links", "post_start", "pre_start", "pre_stop",
	"provider", "restart", "scale",
}

// jobRules gives jobs the verdicts on services' attributes.
func jobRules(root *rule) {
	services, jobs := root.insert("services.*"), root.insert("jobs.*")
	for attribute, r := range services.next {
		if _, own := jobs.next[attribute]; !own {
			jobs.next[attribute] = r
		}
	}
	for _, attribute := range serviceOnly {
		delete(jobs.next, attribute)
	}
}

// asServices puts the jobs among the services, for the steps of compose-go that know only those. They take the services' words
// for what they have in common.
func asServices(project *types.Project) {
	for name, j := range project.Jobs {
		if project.Services == nil {
			project.Services = types.Services{}
		}
		project.Services[name] = types.ServiceConfig{Name: name, Profiles: j.Profiles, ContainerSpec: j.ContainerSpec, WorkloadSpec: j.WorkloadSpec}
	}
}

// asJobs undoes asServices and keeps what the steps made of the jobs.
func asJobs(project *types.Project) {
	for name, j := range project.Jobs {
		s := project.Services[name]
		j.ContainerSpec, j.WorkloadSpec = s.ContainerSpec, s.WorkloadSpec
		project.Jobs[name] = j
		delete(project.Services, name)
	}
}

// enableJobs activates the profiles of jobs that the user named, and returns the other names.
func enableJobs(project *types.Project, names []string) (*types.Project, []string, error) {
	var services, profiles []string
	for _, name := range names {
		j, ok := project.AllJobs()[name]
		if !ok {
			services = append(services, name)
			continue
		}
		profiles = append(profiles, j.Profiles...)
	}
	if len(profiles) == 0 {
		return project, services, nil
	}
	project, err := project.WithProfiles(append(profiles, project.Profiles...))
	return project, services, err
}

// section is where a service or job stands in the file.
func section(project *types.Project, name string) string {
	if _, ok := project.Jobs[name]; ok {
		return "jobs"
	}
	return "services"
}

func (c *converter) job(name string, j types.JobConfig) *spec.Job {
	at := []string{"jobs", name}
	out := &spec.Job{
		Service: *c.workload(at, types.ServiceConfig{
			Name: name, Profiles: j.Profiles, ContainerSpec: j.ContainerSpec, WorkloadSpec: j.WorkloadSpec,
		}),
		Runs: c.runPolicy(at, j),
	}
	out.Policy = nil // the stack's own is for what keeps running
	for dep := range j.DependsOn {
		if _, isJob := c.project.AllJobs()[dep]; isJob {
			c.refuse(join(at, "depends_on", dep), "run one after the other in one job, or schedule the second later",
				"a job that depends on a job is not supported yet")
		}
	}
	if j.Image == "" && j.Build == nil {
		c.refuse(at, "give it an image", "the job has no image")
	}
	c.checkReferences(at, &out.Service)
	if j.Triggers == nil {
		return out // the schema has refused it
	}
	out.Triggers.Manual = j.Triggers.Manual
	for i, s := range j.Triggers.Schedule {
		here := join(at, "triggers", "schedule", strconv.Itoa(i))
		if _, err := schedule.Parse(s.Cron, ""); err != nil {
			c.refuse(join(here, "cron"), "write minute, hour, day of month, month and day of week, such as \"30 4 * * *\"", "%v", err)
		} else if _, err := schedule.Parse(s.Cron, s.Timezone); err != nil {
			c.refuse(join(here, "timezone"), "write the name of a zone, such as Europe/Berlin", "%v", err)
		}
		out.Triggers.Schedule = append(out.Triggers.Schedule, spec.Schedule{
			Cron: s.Cron, Timezone: s.Timezone, Concurrency: s.Concurrency, MissedFires: s.MissedFires,
		})
	}
	return out
}

// runPolicy reads the x-stack of a job.
func (c *converter) runPolicy(at []string, j types.JobConfig) spec.RunPolicy {
	x := c.extension(at, j.Extensions)
	return spec.RunPolicy{Timeout: x.duration("timeout"), Retries: x.count("retries"), History: x.count("history")}
}

// checkReferences finds names that nothing has, in jobs and hooks: compose-go looks at those of services only.
func (c *converter) checkReferences(at []string, j *spec.Service) {
	missing := func(path []string, what, name string) {
		c.refuse(path, "define it under `"+what+"s`", "there is no %s %q", what, name)
	}
	for key := range j.Networks {
		if c.stack.Networks[key] == nil && key != "default" {
			missing(join(at, "networks", key), "network", key)
		}
	}
	for i, m := range j.Mounts {
		if m.Type == spec.MountVolume && m.Source != "" && c.stack.Volumes[m.Source] == nil {
			missing(join(at, "volumes", strconv.Itoa(i)), "volume", m.Source)
		}
	}
	for what, list := range map[string][]spec.FileMount{"secret": j.Secrets, "config": j.Configs} {
		declared := map[string]*spec.File{}
		maps.Copy(declared, c.stack.Secrets)
		if what == "config" {
			declared = c.stack.Configs
		}
		for i, m := range list {
			if declared[m.Source] == nil {
				missing(join(at, what+"s", strconv.Itoa(i)), what, m.Source)
			}
		}
	}
}
