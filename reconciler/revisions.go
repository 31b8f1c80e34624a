package reconciler

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stack-run/stack/planner"
	"github.com/stack-run/stack/reconciler/atomicfile"
	"github.com/stack-run/stack/spec"
)

// defaultHistory is how many revisions of a stack are kept where its x-stack doesn't say.
const defaultHistory = 10

// Revision is one applied desired state of a stack; the newest is what the stack is to be now.
//
// It is kept below <root>/stacks/<stack>/revisions as N.json, which is written once, synced, and is what makes the
// revision exist; and N.about.json, which may be lost without harm: what became of it, and which images it used.
type Revision struct {
	Number int                 `json:"-"`
	Time   time.Time           `json:"time"`
	Cause  Cause               `json:"cause"`
	Digest string              `json:"digest"` // of the stack
	Images map[string]PinImage `json:"images,omitempty"`
	// Contents are the digests of the configs and secrets that go with it, kept in the folder contents.
	Contents []string `json:"contents,omitempty"`

	Outcome  Outcome   `json:"outcome,omitempty"`
	Error    string    `json:"error,omitempty"` // of one that failed or was rolled back
	Finished time.Time `json:"finished,omitzero"`

	// Stack is the desired state, where the whole revision was asked for.
	Stack *spec.Stack `json:"-"`
}

// Cause is why there is a revision.
type Cause struct {
	By      string `json:"by,omitempty"`      // who asked: a user, or a part of the daemon
	Command string `json:"command,omitempty"` // up, create, scale, run, rollback, gitops, ...
	Ref     string `json:"ref,omitempty"`     // what it was made from: a commit, the revision that was gone back to
}

// PinImage is the image that a service had in a revision.
type PinImage struct {
	Image  string `json:"image"`            // as the stack file names it
	ID     string `json:"id"`               // of its configuration: what the containers were made from
	Digest string `json:"digest,omitempty"` // under which a registry has it
}

// Outcome is what became of a revision.
type Outcome string

// The outcomes. One that is neither converged, failed nor rolled back is told from the circumstances.
const (
	Converged   Outcome = "converged"
	Failed      Outcome = "failed"
	RolledBack  Outcome = "rolled back"
	InProgress  Outcome = "in progress"
	Interrupted Outcome = "interrupted"
	Superseded  Outcome = "superseded"
)

// ErrNoRevision means that a stack has no such revision.
var ErrNoRevision = errors.New("no such revision")

func (r *Reconciler) stackDir(name string) string { return filepath.Join(r.root, "stacks", name) }

func (r *Reconciler) revisionPath(stack string, n int) string {
	return filepath.Join(r.stackDir(stack), "revisions", strconv.Itoa(n)+".json")
}

func (r *Reconciler) aboutPath(stack string, n int) string {
	return filepath.Join(r.stackDir(stack), "revisions", strconv.Itoa(n)+".about.json")
}

// revisionNumbers are those of a stack's revisions, oldest first.
func (r *Reconciler) revisionNumbers(stack string) ([]int, error) {
	entries, err := os.ReadDir(filepath.Join(r.stackDir(stack), "revisions"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("stack %s: revisions: %w", stack, err)
	}
	var numbers []int
	for _, e := range entries {
		name, isJSON := strings.CutSuffix(e.Name(), ".json")
		if n, err := strconv.Atoi(name); err == nil && isJSON && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// Revisions are a stack's kept revisions without their stacks, newest first.
func (r *Reconciler) Revisions(stack string) ([]Revision, error) {
	numbers, err := r.revisionNumbers(stack)
	if err != nil {
		return nil, err
	}
	slices.Reverse(numbers)
	var revisions []Revision
	for i, n := range numbers {
		rev := r.about(stack, n)
		if rev.Time.IsZero() {
			continue // dropped meanwhile
		}
		if rev.Outcome == "" {
			rev.Outcome = r.pendingOutcome(stack, i == 0)
		}
		revisions = append(revisions, rev)
	}
	return revisions, nil
}

func (r *Reconciler) pendingOutcome(stack string, newest bool) Outcome {
	switch {
	case !newest:
		return Superseded
	case len(r.stack(stack).op) > 0:
		return InProgress
	}
	return Interrupted
}

// Revision is one of a stack's revisions in full; 0 is the newest. Errors wrap ErrNoRevision when there is none.
func (r *Reconciler) Revision(stack string, n int) (Revision, error) {
	all, err := r.Revisions(stack)
	if err != nil {
		return Revision{}, err
	}
	i := slices.IndexFunc(all, func(rev Revision) bool { return n == 0 || rev.Number == n })
	if i < 0 && n == 0 {
		return Revision{}, fmt.Errorf("stack %s: %w: nothing was applied yet", stack, ErrNoRevision)
	}
	if i < 0 {
		return Revision{}, fmt.Errorf("stack %s: %w: %d", stack, ErrNoRevision, n)
	}
	all[i].Stack, err = r.readRevision(stack, all[i].Number)
	return all[i], err
}

// about reads what is known of a revision beside its stack; what was lost is left out.
func (r *Reconciler) about(stack string, n int) Revision {
	var rev Revision
	data, err := os.ReadFile(r.aboutPath(stack, n))
	if err == nil {
		err = json.Unmarshal(data, &rev)
	}
	if err != nil {
		rev = Revision{}
		if info, err := os.Stat(r.revisionPath(stack, n)); err == nil {
			rev.Time = info.ModTime()
		}
	}
	rev.Number = n
	return rev
}

// applied is the content of N.json.
type applied struct {
	Stack *spec.Stack `json:"stack"`
}

// readRevision reads a revision's desired state, with the contents of its inline configs and secrets.
func (r *Reconciler) readRevision(stack string, n int) (*spec.Stack, error) {
	data, err := os.ReadFile(r.revisionPath(stack, n))
	if err != nil {
		return nil, fmt.Errorf("stack %s: revision %d: %w", stack, n, err)
	}
	var a applied
	if err := json.Unmarshal(data, &a); err != nil {
		return nil, fmt.Errorf("stack %s: read revision %d: %w", stack, n, err)
	}
	if a.Stack == nil {
		return nil, fmt.Errorf("stack %s: read revision %d: there is no stack in it", stack, n)
	}
	return a.Stack, r.fillContents(stack, a.Stack)
}

func (r *Reconciler) writeAbout(stack string, rev Revision) error {
	data, err := json.Marshal(rev)
	if err == nil {
		err = atomicfile.Write(r.aboutPath(stack, rev.Number), data, false)
	}
	if err != nil {
		return fmt.Errorf("stack %s: keep revision %d: %w", stack, rev.Number, err)
	}
	return nil
}

// begin records what a stack is to be, before anything is done about it, as a new revision unless it is what the newest one
// says. The caller holds the stack's operation. Called again when more images are known, it completes its own revision.
func (r *Reconciler) begin(s *stack, desired *spec.Stack, observed *planner.Observed, opts UpOptions, own int) (int, error) {
	previous, err := r.desiredState(s)
	if err != nil {
		r.logf("stack %s: its desired state is lost, and replaced: %v", s.name, err)
	}
	state, err := planner.Applied(desired, previous, observed, opts.Options)
	if err != nil {
		return 0, err
	}
	digest, images := stackDigest(state), pins(state, observed)
	s.mu.Lock()
	newest := s.newest
	s.mu.Unlock()
	if newest.Number > 0 && newest.Digest == digest {
		changed, more := comparePins(newest.Images, images)
		if !more {
			return newest.Number, nil
		}
		if !changed || newest.Number == own && newest.Outcome == "" { // not one that was there before this up
			newest.Images = images
			s.mu.Lock()
			s.newest = newest
			s.mu.Unlock()
			return newest.Number, r.writeAbout(s.name, newest)
		}
	}
	rev := Revision{Time: time.Now(), Cause: opts.Cause, Digest: digest, Images: images, Stack: state}
	return r.addRevision(s, rev)
}

// addRevision writes a revision and makes it the newest.
func (r *Reconciler) addRevision(s *stack, rev Revision) (int, error) {
	numbers, err := r.revisionNumbers(s.name)
	if err != nil {
		return 0, err
	}
	rev.Number = 1
	if len(numbers) > 0 {
		rev.Number = numbers[len(numbers)-1] + 1
	}
	bare, err := r.keepContents(s.name, &rev)
	if err != nil {
		return 0, err
	}
	if err := r.writeAbout(s.name, rev); err != nil {
		return 0, err
	}
	data, err := json.Marshal(applied{Stack: bare})
	if err == nil {
		err = atomicfile.Write(r.revisionPath(s.name, rev.Number), data, true)
	}
	if err != nil {
		return 0, fmt.Errorf("stack %s: keep desired state: %w", s.name, err)
	}
	os.Remove(r.formerDesiredPath(s.name))
	keep := rev.Stack.Policy.History
	s.mu.Lock()
	s.desired, s.loaded, s.sound = rev.Stack, true, stateOf(r.revisionPath(s.name, rev.Number))
	rev.Stack = nil
	s.newest = rev
	s.mu.Unlock()
	r.dropRevisions(s.name, append(numbers, rev.Number), cmp.Or(keep, defaultHistory))
	return rev.Number, nil
}

// conclude records what became of a revision. One that has converged once stays so, unless it is rolled back.
func (r *Reconciler) conclude(s *stack, n int, outcome Outcome, cause error) {
	s.mu.Lock()
	rev := s.newest
	s.mu.Unlock()
	if rev.Number != n {
		rev = r.about(s.name, n)
	}
	if rev.Outcome == outcome || rev.Outcome == Converged && outcome == Failed {
		return
	}
	rev.Outcome, rev.Error, rev.Finished = outcome, "", time.Now()
	if cause != nil {
		rev.Error = cause.Error()
	}
	if err := r.writeAbout(s.name, rev); err != nil {
		r.logf("%v", err)
		return
	}
	s.mu.Lock()
	if s.newest.Number == n {
		s.newest = rev
	}
	s.mu.Unlock()
}

// dropRevisions removes all but the last few revisions, but never the last that converged: it is what
// a rollback goes back to. Contents that no kept revision and no container needs go too.
func (r *Reconciler) dropRevisions(stack string, numbers []int, keep int) {
	if len(numbers) <= keep {
		return
	}
	old, kept := numbers[:len(numbers)-keep], numbers[len(numbers)-keep:]
	good := slices.ContainsFunc(kept, func(n int) bool { return r.about(stack, n).Outcome == Converged })
	for _, n := range slices.Backward(old) {
		if !good && r.about(stack, n).Outcome == Converged {
			good = true
			kept = append(kept, n)
			continue
		}
		for _, path := range []string{r.revisionPath(stack, n), r.aboutPath(stack, n)} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				r.logf("stack %s: drop revision %d: %v", stack, n, err)
			}
		}
	}
	r.dropContents(stack, kept)
}

// stackDigest is a hash of a desired state, without where it is written in the stack files.
func stackDigest(s *spec.Stack) string {
	bare := *s
	bare.Services = make(map[string]*spec.Service, len(s.Services))
	for name, svc := range s.Services {
		unplaced := *svc
		unplaced.Position = ""
		bare.Services[name] = &unplaced
	}
	if len(s.Jobs) > 0 {
		bare.Jobs = make(map[string]*spec.Job, len(s.Jobs))
	}
	for name, job := range s.Jobs {
		unplaced := *job
		unplaced.Position = ""
		bare.Jobs[name] = &unplaced
	}
	data, err := json.Marshal(bare)
	if err != nil {
		panic(fmt.Sprintf("marshal a stack: %v", err)) // plain data always marshals
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// pins are the images that the services of a desired state have now, by service.
func pins(s *spec.Stack, observed *planner.Observed) map[string]PinImage {
	images := map[string]PinImage{}
	for name, svc := range s.Services {
		if img := observed.Images[svc.Image]; img != nil && svc.Replicas > 0 {
			images[name] = PinImage{Image: svc.Image, ID: img.ID, Digest: img.Digest}
		}
	}
	return images
}

// comparePins tells whether a service has another image than before, and whether there is anything new to write down.
func comparePins(before, now map[string]PinImage) (changed, more bool) {
	for name, pin := range now {
		old, known := before[name]
		more = more || !known || old.ID != pin.ID
		changed = changed || known && old.ID != pin.ID
	}
	return changed, more
}
