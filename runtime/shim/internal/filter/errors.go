package filter

import "errors"

// ErrUnsupported is a profile that can't be compiled ahead.
var ErrUnsupported = errors.New("the seccomp profile can't be compiled ahead")
