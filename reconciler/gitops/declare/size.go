package declare

import (
	"errors"

	"github.com/docker/go-units"
)

var errNegative = errors.New("less than nothing")

func size(text string) (int64, error) {
	n, err := units.RAMInBytes(text)
	if err == nil && n < 0 {
		err = errNegative
	}
	return n, err
}
