package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/stack-run/stack/spec"
)

// ErrorTrailer is the HTTP trailer that ends a stream of log entries or containers which failed on its way: an Error as JSON.
const ErrorTrailer = "Stack-Error"

// AsError is err as it travels: an *Error as it is, a cancelled context as Canceled or Timeout, findings about a stack as
// Invalid, anything else as Internal. It is nil for nil.
func AsError(err error) *Error {
	var known *Error
	var findings spec.Diagnostics
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.As(err, &findings):
		return &Error{Code: Invalid, Message: findings.Error()}
	case errors.Is(err, context.Canceled):
		return &Error{Code: Canceled, Message: "canceled"}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: Timeout, Message: "timed out: " + err.Error()}
	default:
		return &Error{Code: Internal, Message: err.Error()}
	}
}

// Status is the HTTP status that an error's code travels with.
func (c Code) Status() int {
	switch c {
	case NotFound:
		return http.StatusNotFound
	case Conflict:
		return http.StatusConflict
	case Invalid:
		return http.StatusBadRequest
	case Unavailable:
		return http.StatusServiceUnavailable
	case Denied:
		return http.StatusForbidden
	case NoSpace, ReadOnly:
		return http.StatusInsufficientStorage
	case Timeout:
		return http.StatusGatewayTimeout
	case Canceled:
		return 499 // the client closed the request
	case Failed:
		return http.StatusUnprocessableEntity
	default:
		return http.StatusInternalServerError
	}
}
