package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
)

// savedPlan is a plan in a file: all that `up` was asked for, and what its plan was made from.
type savedPlan struct {
	FormatVersion int           `json:"format_version"`
	Kind          string        `json:"kind"`
	Made          time.Time     `json:"made"`
	Request       api.UpRequest `json:"request"`
	Basis         planner.Basis `json:"basis"`
	Plan          planner.Plan  `json:"plan"`
}

const savedPlanKind = "stack plan"

// savePlan writes a plan for its user alone, since the stack's secrets are in it.
func savePlan(path string, request api.UpRequest, plan api.Proposal) error {
	if plan.Basis == nil {
		return errors.New("the daemon does not say what the plan was made from; restart it: stack daemon --stop")
	}
	request.Explain = nil
	data, err := json.Marshal(savedPlan{
		FormatVersion: planFormat, Kind: savedPlanKind, Made: time.Now(), Request: request, Basis: *plan.Basis, Plan: plan.Plan,
	})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".plan-") // 0600
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(data, '\n'))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
}

// readPlan reads what savePlan wrote, as the request that does exactly that.
func readPlan(path string) (api.UpRequest, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return api.UpRequest{}, fmt.Errorf("%s: there is no such plan; make one with `stack plan -o %[1]s`", path)
	}
	if err != nil {
		return api.UpRequest{}, err
	}
	var p savedPlan
	if err := json.Unmarshal(data, &p); err != nil {
		return api.UpRequest{}, fmt.Errorf("%s is not a plan that `stack plan -o` saved: %w", path, err)
	}
	switch {
	case p.Kind != savedPlanKind || p.Request.Stack == nil:
		return api.UpRequest{}, fmt.Errorf("%s is not a plan that `stack plan -o` saved", path)
	case p.FormatVersion != planFormat:
		return api.UpRequest{}, fmt.Errorf("%s was saved by another version of stack; make the plan anew", path)
	}
	p.Request.Expect = &p.Basis
	return p.Request, nil
}

// besidePlan are the flags of `up` that go with --plan: what does not change what is done.
var besidePlan = map[string]bool{
	"plan": true, "confirm": true, "yes": true, "detach": true, "wait": true, "wait-timeout": true, "quiet-pull": true,
	"abort-on-container-exit": true, "abort-on-container-failure": true, "exit-code-from": true, "attach": true, "no-attach": true,
	"attach-dependencies": true, "no-color": true, "no-log-prefix": true, "timestamps": true, "menu": true,
	"dry-run": true, "root": true, "run-dir": true, "show-secrets": true,
}

// checkPlanAlone refuses to mix a saved plan with flags that ask for another one.
func checkPlanAlone(cmd *cobra.Command, services []string) error {
	if len(services) > 0 {
		return errors.New("--plan: the plan says which services it is about; make it for them with `stack plan SERVICE... -o FILE`")
	}
	var err error
	cmd.Flags().Visit(func(flag *pflag.Flag) {
		if err == nil && !besidePlan[flag.Name] {
			err = fmt.Errorf("--plan can't be combined with --%s: give it to `stack plan -o FILE`", flag.Name)
		}
	})
	return err
}

// planned is the request of a saved plan with the flags that go with it.
func (c *cli) planned(f upFlags) (api.UpRequest, error) {
	if len(c.files) > 0 || c.projectName != "" {
		return api.UpRequest{}, errors.New("--plan: the plan holds the stack; leave -f and -p away")
	}
	request, err := readPlan(f.plan)
	if err != nil {
		return request, err
	}
	request.Wait = request.Wait || f.wait
	request.Options.WaitHealthy = request.Wait
	request.WaitTimeout = max(request.WaitTimeout, time.Duration(f.waitTimeout)*time.Second)
	request.QuietPull = request.QuietPull || f.quietPull
	return request, nil
}
