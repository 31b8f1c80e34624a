package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/spec"
)

// convergeFlags are what up, create and plan have in common.
type convergeFlags struct {
	scale         []string
	forceRecreate bool
	noRecreate    bool
	recreateDeps  bool
	removeOrphans bool
	noDeps        bool
	noStart       bool
	renewVolumes  bool
	pull          string
	quietPull     bool
	build         bool
	noBuild       bool
	timeout       int
	yes           bool

	timeoutGiven bool
	ignoreOrphan bool
}

func (f *convergeFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.scale, "scale", nil, "SERVICE=NUM: run NUM replicas, whatever the stack file says")
	flags.BoolVar(&f.forceRecreate, "force-recreate", false, "Recreate containers that nothing changed of")
	flags.BoolVar(&f.noRecreate, "no-recreate", false, "Leave existing containers as they are. Not with --force-recreate.")
	flags.BoolVar(&f.recreateDeps, "always-recreate-deps", false, "Recreate what the services depend on, too. Not with --no-recreate.")
	flags.BoolVar(&f.removeOrphans, "remove-orphans", false, "Remove containers of services that the stack file has no more")
	flags.BoolVar(&f.noDeps, "no-deps", false, "Leave alone what the services depend on")
	flags.BoolVarP(&f.renewVolumes, "renew-anon-volumes", "V", false, "Give recreated containers new anonymous volumes")
	flags.StringVar(&f.pull, "pull", "policy", "Pull images: always, missing, never, or as the stack file's policy says")
	flags.BoolVar(&f.quietPull, "quiet-pull", false, "Pull without progress")
	flags.BoolVar(&f.build, "build", false, "Make images anew by the commands of x-stack build")
	flags.BoolVar(&f.noBuild, "no-build", false, "Don't make images that are missing")
	flags.IntVarP(&f.timeout, "timeout", "t", 0, "Seconds that a container has to stop")
	flags.BoolVarP(&f.yes, "yes", "y", false, "Go on without being asked (see --confirm)")
}

var pullPolicies = []string{"policy", "always", "missing", "never", "if_not_present"}

// check refuses flags that contradict each other, in Compose's words.
func (f *convergeFlags) check(cmd *cobra.Command) error {
	f.timeoutGiven = cmd.Flags().Changed("timeout")
	if !cmd.Flags().Changed("remove-orphans") {
		f.removeOrphans = switchedOn("COMPOSE_REMOVE_ORPHANS")
	}
	f.ignoreOrphan = switchedOn("COMPOSE_IGNORE_ORPHANS")
	switch {
	case f.build && f.noBuild:
		return errors.New("--build and --no-build are incompatible")
	case f.forceRecreate && f.noRecreate:
		return errors.New("--force-recreate and --no-recreate are incompatible")
	case f.recreateDeps && f.noRecreate:
		return errors.New("--always-recreate-deps and --no-recreate are incompatible")
	case f.renewVolumes && f.noRecreate:
		return errors.New("--no-recreate and --renew-anon-volumes are incompatible")
	case f.ignoreOrphan && f.removeOrphans:
		return errors.New("cannot combine COMPOSE_IGNORE_ORPHANS and --remove-orphans")
	}
	return checkPull(f.pull)
}

func checkPull(policy string) error {
	if !slices.Contains(pullPolicies, policy) {
		return fmt.Errorf("--pull %q: use one of %s", policy, joined(pullPolicies))
	}
	return nil
}

// pullOption is --pull as it travels: empty for the stack file's policy.
func pullOption(policy string) string {
	switch policy {
	case "policy":
		return ""
	case "if_not_present":
		return "missing"
	}
	return policy
}

// options is what the flags ask of the planner.
func (f *convergeFlags) options(stack *spec.Stack, services []string) (planner.Options, error) {
	scale, err := parseScale(f.scale)
	if err != nil {
		return planner.Options{}, err
	}
	for name := range scale {
		if stack.Services[name] == nil {
			return planner.Options{}, fmt.Errorf("--scale %s: no such service", name)
		}
	}
	return planner.Options{
		Services:           services,
		NoDeps:             f.noDeps,
		Scale:              scale,
		ForceRecreate:      f.forceRecreate,
		NoRecreate:         f.noRecreate,
		AlwaysRecreateDeps: f.recreateDeps,
		RemoveOrphans:      f.removeOrphans,
		IgnoreOrphans:      f.ignoreOrphan,
		NoStart:            f.noStart,
		RenewAnonVolumes:   f.renewVolumes,
		Timeout:            seconds(f.timeout, f.timeoutGiven),
		Pull:               pullOption(f.pull),
	}, nil
}

// parseScale reads SERVICE=NUM.
func parseScale(args []string) (map[string]int, error) {
	if len(args) == 0 {
		return nil, nil
	}
	scale := map[string]int{}
	for _, arg := range args {
		service, number, ok := strings.Cut(arg, "=")
		n, err := strconv.Atoi(number)
		if !ok || service == "" || err != nil || n < 0 {
			return nil, fmt.Errorf("%q: write SERVICE=NUM, such as web=3", arg)
		}
		scale[service] = n
	}
	return scale, nil
}

// seconds is a timeout flag as it travels: nil when not given, 0 when a container has no time at all.
func seconds(n int, given bool) *time.Duration {
	if !given {
		return nil
	}
	d := time.Duration(n) * time.Second
	return &d
}
