package reconciler

import (
	"bytes"
	"encoding/json"
	"os"

	"github.com/stack-run/stack/spec"
)

// restate writes what operations have asked of a stack anew where somebody else changed or removed it: while a daemon runs,
// what it knows is the truth. It does so between operations.
func (r *Reconciler) restate(s *stack) {
	unlock, err := s.lockForLoop(r.ctx, func() {})
	if err != nil {
		return
	}
	defer unlock()
	s.mu.Lock()
	in, desired, newest, loaded := s.intent, s.desired, s.newest, s.loaded
	s.mu.Unlock()
	if !loaded || desired == nil {
		return // nothing is known of it: a new stack, or one that is gone
	}
	if in != nil && r.intentLost(s.name, in) {
		r.logf("stack %s: what was asked of it was changed by somebody else; it is written anew", s.name)
		if err := r.writeIntent(s, in); err != nil {
			r.logf("%v", err)
		}
	}
	if newest.Number > 0 && r.revisionLost(s.name, newest.Number, desired) {
		r.logf("stack %s: its revision %d was changed by somebody else; it is kept as another one", s.name, newest.Number)
		again := Revision{
			Time: newest.Time, Cause: Cause{By: "the daemon", Command: "repair"}, Digest: newest.Digest, Images: newest.Images,
			Outcome: newest.Outcome, Finished: newest.Finished, Stack: desired,
		}
		if _, err := r.addRevision(s, again); err != nil {
			r.logf("%v", err)
		}
	}
}

func (r *Reconciler) intentLost(name string, in *intent) bool {
	want, err := json.Marshal(in)
	if err != nil {
		return false
	}
	have, err := os.ReadFile(r.intentPath(name))
	return err != nil && os.IsNotExist(err) || err == nil && !bytes.Equal(have, want)
}

func (r *Reconciler) revisionLost(name string, number int, desired *spec.Stack) bool {
	have, err := r.readRevision(name, number)
	return err != nil || stackDigest(have) != stackDigest(desired)
}

// restateNetworks writes records of networks anew that somebody else changed or removed.
func (r *Reconciler) restateNetworks() {
	names, err := r.networks.Restate()
	if err != nil {
		r.logf("%v", err)
	}
	for _, name := range names {
		r.logf("network %s: its record was changed by somebody else; it is written anew", name)
	}
}
