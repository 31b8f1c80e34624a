package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/stack-run/stack/cmd/internal/api"
)

// maxBody bounds a request's JSON. A stack of 1,000 services is about 2 MB; config contents come on top.
const maxBody = 64 << 20

// decode reads the one JSON value of a request. Unknown fields are refused, so that a newer client's wish is never
// dropped in silence.
func decode[T any](w http.ResponseWriter, r *http.Request) (T, error) {
	return decodeFrom[T](http.MaxBytesReader(w, r.Body, maxBody))
}

func decodeFrom[T any](body io.Reader) (T, error) {
	var value T
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&value); err != nil {
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			return value, &api.Error{Code: api.Invalid, Message: fmt.Sprintf("the request is longer than %d bytes", tooLong.Limit)}
		}
		return value, &api.Error{
			Code:    api.Invalid,
			Message: "malformed request: " + err.Error(),
			Remedy:  "a command and a daemon of different versions? restart the daemon: stack daemon --stop",
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return value, &api.Error{Code: api.Invalid, Message: "malformed request: something follows the JSON value"}
	}
	return value, nil
}

// flag reads a boolean of the query; absent is false.
func flag(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	value, err := strconv.ParseBool(text)
	if err != nil {
		return false, &api.Error{Code: api.Invalid, Message: fmt.Sprintf("%s=%q is neither true nor false", name, text)}
	}
	return value, nil
}
