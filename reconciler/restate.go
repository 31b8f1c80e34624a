package reconciler

import (
	"bytes"
	"encoding/json"
	"os"
	"syscall"

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
	in, desired, newest, loaded, sound := s.intent, s.desired, s.newest, s.loaded, s.sound
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
	if newest.Number == 0 {
		return
	}
	now := stateOf(r.revisionPath(s.name, newest.Number))
	if now != (fileState{}) && now == sound && !hasContents(desired) {
		return // most of the time it was an operation's own writing that brought us here
	}
	if r.revisionLost(s.name, newest.Number, desired) {
		r.logf("stack %s: its revision %d was changed by somebody else; it is kept as another one", s.name, newest.Number)
		again := Revision{
			Time: newest.Time, Cause: Cause{By: "the daemon", Command: "repair"}, Digest: newest.Digest, Images: newest.Images,
			Outcome: newest.Outcome, Finished: newest.Finished, Stack: desired,
		}
		if _, err := r.addRevision(s, again); err != nil {
			r.logf("%v", err)
		}
		return
	}
	s.mu.Lock()
	s.sound = now
	s.mu.Unlock()
}

// hasContents tells whether there are contents beside the stack's revision that it needs.
func hasContents(s *spec.Stack) bool {
	for _, declared := range []map[string]*spec.File{s.Secrets, s.Configs} {
		for _, f := range declared {
			if f.File == "" && !f.External {
				return true
			}
		}
	}
	return false
}

// fileState changes with every change of a file: the change time can't be set back by a program.
type fileState struct {
	device, inode uint64
	size          int64
	changed       syscall.Timespec
}

// stateOf is zero for a file that can't be looked at.
func stateOf(path string) fileState {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return fileState{}
	}
	return fileState{device: uint64(st.Dev), inode: st.Ino, size: st.Size, changed: st.Ctim}
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
