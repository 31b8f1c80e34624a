// Package probe writes requests for the small program in boot/probe.c, which starts one command in a running container, and
// reads its answer.
package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Name is the program's name: the shim, executed by it and without arguments, is that program.
const Name = "stack-probe"

// NoScore leaves the OOM score as it is.
const NoScore = math.MinInt32

// NoUmask leaves the file mode mask as it is.
const NoUmask = -1

// Limit is one resource limit.
type Limit struct{ Resource, Soft, Hard uint64 }

// Capabilities are sets of bits, one a capability.
type Capabilities struct{ Bounding, Effective, Permitted, Inheritable, Ambient uint64 }

// Request is what the command gets from its container. It serves any number of probes.
type Request struct {
	Namespaces   int // CLONE_NEW* of those to join
	UID, GID     uint32
	Groups       []uint32
	Umask        int
	OOMScore     int
	NoNewPrivs   bool
	Capabilities Capabilities
	Limits       []Limit
	Filter       []unix.SockFilter
	FilterFlags  uint32
	Cgroups      []string // cgroup.procs files
	Directory    string
	Keyring      string // of the session; empty: the shim's
	AppArmor     string
	Args, Env    []string
}

// header is struct header of boot/probe.c.
type header struct {
	Version, Namespaces, UID, GID                           uint32
	Umask, OOMScore                                         int32
	NoNewPrivs, FilterFlags                                 uint32
	Capabilities                                            Capabilities
	Groups, Limits, Filter, Cgroups, Arguments, Environment uint32
}

const version = 1

// Encode writes the request as the program reads it.
func (r *Request) Encode() ([]byte, error) {
	h := header{
		Version: version, Namespaces: uint32(r.Namespaces), UID: r.UID, GID: r.GID, Umask: int32(r.Umask), OOMScore: int32(r.OOMScore),
		FilterFlags: r.FilterFlags, Capabilities: r.Capabilities,
		Groups: uint32(len(r.Groups)), Limits: uint32(len(r.Limits)), Filter: uint32(len(r.Filter)),
		Cgroups: uint32(len(r.Cgroups)), Arguments: uint32(len(r.Args)), Environment: uint32(len(r.Env)),
	}
	if r.NoNewPrivs {
		h.NoNewPrivs = 1
	}
	var b bytes.Buffer
	for _, part := range []any{h, r.Limits, r.Filter, r.Groups} {
		if err := binary.Write(&b, binary.NativeEndian, part); err != nil {
			return nil, fmt.Errorf("probe: %w", err)
		}
	}
	for _, list := range [][]string{{r.Directory, r.Keyring, r.AppArmor}, r.Cgroups, r.Args, r.Env} {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return nil, fmt.Errorf("probe: %q holds a zero byte", s)
			}
			b.WriteString(s)
			b.WriteByte(0)
		}
	}
	return b.Bytes(), nil
}

// File holds the request in memory, for each probe to read.
func (r *Request) File() (*os.File, error) {
	data, err := r.Encode()
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate(Name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), Name)
	if _, err := f.Write(data); err != nil {
		f.Close()
		return nil, fmt.Errorf("probe: %w", err)
	}
	return f, nil
}

// Stages at which a probe fails: enum stage of boot/probe.c.
const (
	Done = iota
	Setup
	Join
	Identity
	Directory
	Execute
)

// Answer is what became of a probe.
type Answer struct {
	PID   int // of the command, a child of the shim; also of one that failed
	Stage int
	Errno syscall.Errno
}

// AnswerSize in bytes.
const AnswerSize = 12

var errShort = errors.New("probe: it ended without an answer")

// ParseAnswer reads what the program wrote.
func ParseAnswer(b []byte) (Answer, error) {
	if len(b) != AnswerSize {
		return Answer{}, errShort
	}
	word := func(i int) int32 { return int32(binary.NativeEndian.Uint32(b[i:])) }
	return Answer{PID: int(word(0)), Stage: int(word(4)), Errno: syscall.Errno(word(8))}, nil
}

func (a Answer) Error() string {
	stages := []string{"start", "set up", "join the container", "take the container's identity", "change to the working directory", "execute"}
	stage := "start"
	if a.Stage >= 0 && a.Stage < len(stages) {
		stage = stages[a.Stage]
	}
	return fmt.Sprintf("probe: %s: %v", stage, a.Errno)
}
