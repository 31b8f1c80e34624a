package reconciler

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Probe is one result of a health check.
type Probe struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int       `json:"exit_code"`
	Output   string    `json:"output,omitempty"`  // its first bytes
	Failure  string    `json:"failure,omitempty"` // why there is no exit code
}

func (p Probe) ok() bool { return p.Failure == "" && p.ExitCode == 0 }

// says is what of a result is news when it differs from the one before.
func (p Probe) says() Probe {
	p.Start, p.End = time.Time{}, time.Time{}
	return p
}

// String is "exit 1: connection refused", or why there was no exit.
func (p Probe) String() string {
	text := "exit " + strconv.Itoa(p.ExitCode)
	if p.Failure != "" {
		text = p.Failure
	}
	if out := strings.TrimSpace(p.Output); out != "" {
		text += ": " + out
	}
	return text
}

// keptProbes is how many results are kept of a container: those of the run before, too, since they tell why it ended.
const keptProbes = 10

// probeLog is the last results of a container's health check. It is written beside the record when there is news: a result
// that says the same as the one before is not, so that checks that succeed for months write nothing.
type probeLog struct {
	Run    time.Time `json:"run"`    // start of the run that the latest results are of
	Streak int       `json:"streak"` // failures in a row that count
	Probes []Probe   `json:"probes,omitempty"`

	path  string
	dirty bool
}

const probeLogName = "health.json"

// open reads what is kept of a container whose present run began at the given time. What can't be read is begun anew.
func (l *probeLog) open(dir string, run time.Time) {
	if l.path == "" {
		l.path = filepath.Join(dir, probeLogName)
		var kept probeLog
		if data, err := os.ReadFile(l.path); err == nil && json.Unmarshal(data, &kept) == nil {
			l.Run, l.Streak, l.Probes = kept.Run, kept.Streak, kept.Probes
		}
	}
	if !l.Run.Equal(run) {
		l.Run, l.Streak = run, 0
	}
}

// latest is the last result of the present run.
func (l *probeLog) latest() *Probe {
	if n := len(l.Probes); n > 0 && l.Probes[n-1].Start.After(l.Run) {
		p := l.Probes[n-1]
		return &p
	}
	return nil
}

func (l *probeLog) add(p Probe, streak int) error {
	n := len(l.Probes)
	news := n == 0 || l.Probes[n-1].says() != p.says() || l.Streak != streak
	l.Probes = append(l.Probes, p)
	if len(l.Probes) > keptProbes {
		l.Probes = append([]Probe(nil), l.Probes[1:]...)
	}
	l.Streak, l.dirty = streak, true
	if !news {
		return nil
	}
	return l.write()
}

// write replaces the file, which goes with the container's folder.
func (l *probeLog) write() error {
	if !l.dirty {
		return nil
	}
	data, err := json.Marshal(l)
	if err == nil {
		err = os.WriteFile(l.path+".tmp", data, 0o600)
	}
	if err == nil {
		err = os.Rename(l.path+".tmp", l.path)
	}
	if err == nil {
		l.dirty = false
	}
	return err
}

// keep notes a result of the run that ctx belongs to.
func (k *keeper) keep(ctx context.Context, p Probe, streak int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ctx.Err() == nil {
		_ = k.probes.add(p, streak) // a full disk costs the history that a new daemon would read, not the check
	}
}

// flush writes what is not written yet, at the end of a run or of the daemon. A container that was removed takes it along.
func (k *keeper) flush(context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	_ = k.probes.write()
}

// History of a container's health check: the last results, of the run before too, and the failures in a row.
func (r *Reconciler) History(id string) (probes []Probe, streak int, err error) {
	v, err := r.engine.Get(id)
	if err != nil {
		return nil, 0, err
	}
	k := r.stack(v.Stack).keeper(id)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.probes.open(v.Dir, v.State.Started)
	return append([]Probe(nil), k.probes.Probes...), k.probes.Streak, nil
}
