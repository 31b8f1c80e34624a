package runtime

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/stack-run/stack/netdriver"
	"github.com/stack-run/stack/spec"
	"github.com/stack-run/stack/voldriver"
)

// Phase of a container's record. A record in any other phase than Made belongs to a container that is half-made or
// half-removed: whoever finds it after a crash removes the rest.
type Phase string

const (
	Making   Phase = "making"
	Made     Phase = "made"
	Removing Phase = "removing"
)

// Intent is what was last asked for a container; restart policies act only on those meant to run.
type Intent string

const (
	IntentNone Intent = ""     // created, never started
	IntentRun  Intent = "run"  // started by an operation
	IntentStop Intent = "stop" // stopped by a user or an operation
	// IntentHalt: stopped by an operation that goes on to start it, or what takes its place. Only a crash lets it be seen.
	IntentHalt Intent = "halt"
)

// Network modes of a container.
const (
	NetPrivate   = "private" // a network namespace of its own
	NetHost      = "host"
	NetNone      = "none"      // a network namespace with nothing but loopback
	NetContainer = "container" // another container's, Record.NetOf
)

// Record is all that is kept of one container, as <root>/stacks/<stack>/containers/<id>/container.json. It is written
// before anything else of the container exists and removed after everything else is gone.
type Record struct {
	ID         string            `json:"id"` // 64 hex digits
	Name       string            `json:"name"`
	Stack      string            `json:"stack"`
	Service    string            `json:"service"`
	Replica    int               `json:"replica"`
	OneOff     bool              `json:"one_off,omitempty"`
	AutoRemove bool              `json:"auto_remove,omitempty"`
	Spec       spec.Service      `json:"spec"`
	Image      string            `json:"image"`
	ImageID    string            `json:"image_id"`
	Labels     map[string]string `json:"labels,omitempty"`
	Created    time.Time         `json:"created"`
	Phase      Phase             `json:"phase"`
	Intent     Intent            `json:"intent,omitempty"`
	Restarts   int               `json:"restarts,omitempty"` // by the restart policy, since it was last started by an operation
	Attempts   int               `json:"attempts,omitempty"` // those since the last run that lasted: what max_attempts bounds
	Health     string            `json:"health,omitempty"`   // as of its last change
	// Ailing counts the restarts of an unhealthy container since it was well for a while; Healing says that one of them is on its
	// way: the process is ended and started again, whatever the restart policy says.
	Ailing  int  `json:"ailing,omitempty"`
	Healing bool `json:"healing,omitempty"`
	// Updating says that an update in place was begun: what the kernel has of the container may be neither what Spec says
	// nor what it is to become.
	Updating bool `json:"updating,omitempty"`
	// JobRun says which run of a job it is, where it is one.
	JobRun *JobRun `json:"job_run,omitempty"`
	// InitOf says for which container it ran a pre_start hook; Initialized, of that one, that all of them have succeeded.
	InitOf      *InitOf `json:"init_of,omitempty"`
	Initialized bool    `json:"initialized,omitempty"`
	// Hooked is how far the post_start hooks of a run have come.
	Hooked Hooked `json:"hooked,omitzero"`
	// Succeeds is the container whose place this one was made to take, start-first, until it has that one's name.
	Succeeds string `json:"succeeds,omitempty"`
	// Standby says that it is not known to be ready yet: others of its service serve first. Drained that new connections are
	// kept away from it for good.
	Standby bool `json:"standby,omitempty"`
	Drained bool `json:"drained,omitempty"`
	// DropVolumes says, in phase Removing, that the anonymous volumes go too.
	DropVolumes bool `json:"drop_volumes,omitempty"`
	// KeepLog says, in phase Removing, that the log outlives the container: another one takes its place.
	KeepLog bool `json:"keep_log,omitempty"`

	NetMode   string               `json:"net_mode"`
	NetOf     string               `json:"net_of,omitempty"` // container id
	PIDOf     string               `json:"pid_of,omitempty"`
	IPCOf     string               `json:"ipc_of,omitempty"`
	Endpoints []netdriver.Endpoint `json:"endpoints,omitempty"`
	Hosts     []string             `json:"hosts,omitempty"` // lines of /etc/hosts beyond the container's own
	// Connected is the network namespace in which the endpoints were set up; another path than the sandbox's
	// means that they have to be set up (again).
	Connected string `json:"connected,omitempty"`

	// MountSpecs are the service's mounts and those that the image and volumes_from add; Mounts are the same, resolved.
	MountSpecs []spec.Mount      `json:"mount_specs,omitempty"`
	Mounts     []voldriver.Mount `json:"mounts,omitempty"`
	Anonymous  []string          `json:"anonymous,omitempty"` // volumes that live and die with this container
	// Volumes it mounts, by name on the host.
	Volumes []string `json:"volumes,omitempty"`
	// Secrets and Configs with where their content comes from.
	Files []FileSource `json:"files,omitempty"`
}

// JobRun names an attempt of a run of a job.
type JobRun struct {
	Job     string `json:"job"`
	Number  int    `json:"number"`
	Attempt int    `json:"attempt"`
}

// InitOf names the container that another one prepares, and the hook by its place in the service's list.
type InitOf struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Place int    `json:"place"`
}

// Hooked counts the post_start hooks that have succeeded in one run of a container, which its start tells from others.
type Hooked struct {
	Run  time.Time `json:"run"`
	Done int       `json:"done"`
}

// HooksPending tells whether the container runs and its post_start hooks have not all succeeded in this run.
func (v View) HooksPending() bool {
	n := len(v.Spec.PostStart)
	return n > 0 && v.Running() && !(v.Hooked.Run.Equal(v.State.Started) && v.Hooked.Done >= n)
}

// FileSource is one secret or config of a container.
type FileSource struct {
	spec.FileMount
	Secret  bool   `json:"secret,omitempty"`
	File    string `json:"file,omitempty"`
	Content []byte `json:"content,omitempty"`
}

// Address of the container: service.web[2], or run.<name> for a one-off one.
func (r *Record) Address() string {
	if r.OneOff {
		return "run." + r.Name
	}
	return fmt.Sprintf("service.%s[%d]", r.Service, r.Replica)
}

// NewID makes a container id: 64 hex digits.
func NewID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

const recordName = "container.json"

// recordLines is how many lines a record's file may have before it is written anew.
const recordLines = 16

// writeRecord appends a record to its file, of which the last whole line counts, and returns the number of lines it has
// then. lines is what it had, 0 where that is not known: then, and when there are too many, the file is replaced by one
// with a single line. A change is an append, and not a new file, because file systems make new inodes slowly where many
// were deleted lately. It is not synced: after a power loss a torn or missing record is a half-made container, which is
// removed and made again.
func writeRecord(dir string, r *Record, lines int) (int, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return lines, fmt.Errorf("container %s: %w", r.Name, err)
	}
	return writeRecordLine(dir, r.Name, append(data, '\n'), lines)
}

func writeRecordLine(dir, name string, data []byte, lines int) (int, error) {
	path := filepath.Join(dir, recordName)
	if lines > 0 && lines < recordLines {
		if err := appendFile(path, data); err != nil {
			return 0, fmt.Errorf("container %s: write record: %w", name, err)
		}
		return lines + 1, nil
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return 0, fmt.Errorf("container %s: write record: %w", name, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return 0, fmt.Errorf("container %s: write record: %w", name, err)
	}
	return 1, nil
}

func appendFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// readRecord reads the last whole line of a record's file.
func readRecord(dir string) (*Record, error) {
	data, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return nil, err
	}
	lines := bytes.Split(data, []byte("\n"))
	for i := len(lines) - 1; i >= 0; i-- {
		r := &Record{}
		if len(lines[i]) > 0 && json.Unmarshal(lines[i], r) == nil {
			return r, nil
		}
	}
	return nil, fmt.Errorf("%s holds no record", recordName)
}

// readRecords reads all containers below <root>/stacks. A folder without a readable record is what a crash left of a
// container: it comes back as a Record in phase Making, so that its removal cleans up.
func readRecords(root string, logf func(string, ...any)) ([]*Record, error) {
	stacks, err := os.ReadDir(filepath.Join(root, "stacks"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read containers: %w", err)
	}
	var records []*Record
	for _, stack := range stacks {
		dir := filepath.Join(root, "stacks", stack.Name(), "containers")
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			logf("read containers of stack %s: %v", stack.Name(), err) // those of other stacks are no worse for it
		}
		for _, e := range entries {
			r, err := readRecord(filepath.Join(dir, e.Name()))
			if err != nil || r.ID != e.Name() {
				r = &Record{ID: e.Name(), Name: e.Name(), Stack: stack.Name(), Phase: Making}
			}
			records = append(records, r)
		}
	}
	return records, nil
}
