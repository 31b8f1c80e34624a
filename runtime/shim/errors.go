package shim

import "errors"

// Code classifies an error that crosses the socket; the client turns it back into one of the sentinels below.
type Code string

const (
	CodeNotFound  Code = "not_found"  // no such container or exec
	CodeConflict  Code = "conflict"   // not possible in the container's state
	CodeNoCommand Code = "no_command" // the program is not in the image, or is a folder: exit code 127
	CodeNotExec   Code = "not_exec"   // the program may not be executed: exit code 126
	CodeInvalid   Code = "invalid"    // the bundle asks for what the kernel or runtime refuses
	CodeNoSpace   Code = "no_space"   // disk full
	CodeInternal  Code = "internal"
)

// Sentinels for errors.Is, one a code.
var (
	ErrNotFound  = errors.New("not known to the shim")
	ErrConflict  = errors.New("not possible in this state")
	ErrNoCommand = errors.New("command not found")
	ErrNotExec   = errors.New("command not executable")
	ErrInvalid   = errors.New("refused by the runtime or the kernel")
	ErrNoSpace   = errors.New("no space left")
	ErrInternal  = errors.New("shim failed")
	// ErrLost tells that the connection broke before the reply came: the request may or may not have been carried out.
	ErrLost = errors.New("connection to the shim lost")
)

var sentinels = map[Code]error{
	CodeNotFound: ErrNotFound, CodeConflict: ErrConflict, CodeNoCommand: ErrNoCommand, CodeNotExec: ErrNotExec,
	CodeInvalid: ErrInvalid, CodeNoSpace: ErrNoSpace, CodeInternal: ErrInternal,
}

// Error is an error reply. errors.Is finds the sentinel of its code.
type Error struct {
	Code    Code
	Message string
}

func (e *Error) Error() string { return e.Message }

// Is reports whether target is the sentinel of the error's code; a code of a newer shim is an internal error.
func (e *Error) Is(target error) bool {
	s, known := sentinels[e.Code]
	if !known {
		s = ErrInternal
	}
	return s == target
}
