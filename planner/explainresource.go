package planner

import (
	"strings"

	"github.com/stack-run/stack/spec"
)

// Explanations of what is no service: networks, volumes, jobs, images.

func (u *up) explainNetwork(d *spec.Network) Explanation {
	e := Explanation{Address: spec.NetworkAddress(d.Key).String(), Verdict: "nothing: all is as it should be"}
	o := u.observed.Networks[d.Name]
	if o == nil {
		e.Verdict = "create: missing"
		if d.External {
			e.Verdict = "refused: it is external and doesn't exist"
		}
		e.Checks = []Criterion{{What: "network", Desired: d.Name, Observed: "none"}}
		return e
	}
	options := Criterion{What: "options", Desired: "as in the stack file", Observed: "as in the stack file", OK: true}
	switch {
	case d.External:
		options.Observed = "external: not compared"
	case o.Stack != u.desired.Name:
		options.Observed = "not made by this stack: used as it is"
	case o.Digest != "" && o.Digest != NetworkDigest(*d):
		options.OK, options.Observed, e.Verdict = false, "differ", "recreate: options changed, with every container on it"
	case len(o.Drift) > 0:
		e.Verdict = "repair: drifted"
	}
	kernel := Criterion{What: "kernel", Desired: "as recorded", Observed: "as recorded", OK: len(o.Drift) == 0}
	if !kernel.OK {
		kernel.Observed = strings.Join(o.Drift, ", ")
	}
	owner := Criterion{What: "owner", Desired: u.desired.Name, Observed: o.Stack, OK: d.External || o.Stack == u.desired.Name}
	if u.networks[d.Key] == nil {
		e.Verdict = "nothing: no service of the selection is on it"
	}
	e.Checks = []Criterion{owner, options, kernel}
	return e
}

func (u *up) explainVolume(d *spec.Volume) Explanation {
	e := Explanation{Address: spec.VolumeAddress(d.Key).String(), Verdict: "nothing: all is as it should be"}
	o := u.observed.Volumes[d.Name]
	switch {
	case o == nil && d.External:
		e.Verdict = "refused: it is external and doesn't exist"
		e.Checks = []Criterion{{What: "volume", Desired: d.Name, Observed: "none"}}
	case o == nil:
		e.Verdict = "create: missing"
		e.Checks = []Criterion{{What: "volume", Desired: d.Name, Observed: "none"}}
	default:
		options := Criterion{What: "options", Desired: "as in the stack file", Observed: "as in the stack file", OK: true}
		if !d.External && o.Digest != "" && o.Digest != VolumeDigest(*d) {
			options.OK, options.Observed, e.Verdict = false, "differ", "nothing: its options differ, but its data is nothing that a plan may touch"
		}
		e.Checks = []Criterion{{What: "owner", Desired: u.desired.Name, Observed: o.Stack, OK: d.External || o.Stack == u.desired.Name}, options}
	}
	return e
}

func (u *up) explainJob(j *spec.Job) Explanation {
	e := Explanation{Address: spec.JobAddress(j.Name).String(), Verdict: "nothing: all is as it should be"}
	kept := u.observed.Jobs[j.Name]
	if kept == nil {
		e.Verdict = "add job: missing"
		e.Checks = []Criterion{{What: "job", Desired: "kept by the daemon", Observed: "none"}}
	} else {
		cr := Criterion{What: "configuration", Desired: "as in the stack file", Observed: "as in the stack file", OK: kept.Spec.Digest() == j.Digest()}
		if !cr.OK {
			cr.Observed, cr.Changes, e.Verdict = "differs", spec.DiffJobs(&kept.Spec, j), "update job: "+string(SpecChanged)
		}
		suspended := Criterion{What: "suspended", Desired: "no", Observed: "no", OK: true}
		if kept.Suspended {
			suspended.Observed, suspended.OK = "yes", u.opts.KeepStopped
			if cr.OK && !suspended.OK {
				e.Verdict = "resume job"
			}
		}
		e.Checks = []Criterion{cr, suspended}
	}
	if len(u.opts.Services) > 0 || u.opts.NoStart {
		e.Verdict = "nothing: jobs are for who asks for the whole stack, and starts it"
	}
	return e
}

func (u *up) explainImage(s *course) Explanation {
	e := Explanation{Address: spec.ImageAddress(s.Image).String(), Verdict: "nothing: it is in the store, and its pull policy asks for no more"}
	store := Criterion{What: "store", Desired: "there", Observed: "missing"}
	if image := u.observed.Images[s.Image]; image != nil {
		store.Observed, store.OK = short(image.ID), true
		if refreshes(u.policy(s)) {
			store.Note = "fresh enough"
			if image.Stale {
				store.OK, store.Note = false, "older than its policy allows"
			}
		}
	}
	build, built := u.build(s)
	if built {
		e.Verdict = "would build: " + because(build)
	} else if action, needed := u.pull(s, false); needed {
		e.Verdict = "would pull: " + because(action)
	} else if !store.OK {
		e.Verdict = "nothing: no container is made from it"
	}
	e.Checks = []Criterion{store, {What: "pull policy", Observed: orWord(u.policy(s), "missing"), OK: true}}
	return e
}
