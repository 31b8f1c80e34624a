// Package dump asks the kernel for lists until it gives a whole one.
package dump

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// tries bounds how often a list is asked for that changes all the time.
const tries = 20

// Whole returns what list does, asked again where the kernel says that the list changed while it was given.
func Whole[T any](list func() (T, error)) (out T, err error) {
	for range tries {
		if out, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return out, err
}
