package dns

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const recordSuffix = ".json"

// WriteRecord puts a container's record in place at once: a reader sees the old one or the new one.
func WriteRecord(dir, network string, r Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("dns record: %w", err)
	}
	folder := filepath.Join(dir, network)
	path := filepath.Join(folder, r.ContainerID+recordSuffix)
	if old, err := os.ReadFile(path); err == nil && string(old) == string(b) {
		return nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("dns record: %w", err)
	}
	// Not ending in the suffix, so that no reader takes it for a record. No sync: the folder is gone after a reboot.
	next := filepath.Join(folder, "."+r.ContainerID)
	if err := os.WriteFile(next, b, 0o644); err != nil {
		return fmt.Errorf("dns record: %w", errors.Join(err, os.Remove(next)))
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("dns record: %w", errors.Join(err, os.Remove(next)))
	}
	return nil
}

// UpdateRecord is WriteRecord for a container that has a record: one that has none is not there.
func UpdateRecord(dir, network string, r Record) error {
	if _, err := os.Stat(filepath.Join(dir, network, r.ContainerID+recordSuffix)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return WriteRecord(dir, network, r)
}

// HasRecord tells whether a container's record is in place as r says.
func HasRecord(dir, network string, r Record) bool {
	want, err := json.Marshal(r)
	have, readErr := os.ReadFile(filepath.Join(dir, network, r.ContainerID+recordSuffix))
	return err == nil && readErr == nil && string(have) == string(want)
}

// RemoveRecord removes a container's record on one network; none is no error.
func RemoveRecord(dir, network, id string) error {
	err := os.Remove(filepath.Join(dir, network, id+recordSuffix))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dns record: %w", err)
	}
	return nil
}

// RemoveNetwork removes all records of a network.
func RemoveNetwork(dir, network string) error {
	if err := os.RemoveAll(filepath.Join(dir, network)); err != nil {
		return fmt.Errorf("dns records: %w", err)
	}
	return nil
}

// Withdraw removes a container's records on all networks: its names stop resolving when it exits.
func Withdraw(dir, id string) error {
	return Sweep(dir, func(_, other string) bool { return other != id })
}

// Sweep removes the records that keep says no to, and folders left empty by that.
func Sweep(dir string, keep func(network, id string) bool) error {
	networks, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dns records: %w", err)
	}
	var errs []error
	for _, n := range networks {
		records, err := os.ReadDir(filepath.Join(dir, n.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		left := len(records)
		for _, r := range records {
			id := strings.TrimPrefix(strings.TrimSuffix(r.Name(), recordSuffix), ".")
			if keep(n.Name(), id) {
				continue
			}
			left--
			if err := os.Remove(filepath.Join(dir, n.Name(), r.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
		if left == 0 && len(records) > 0 {
			os.Remove(filepath.Join(dir, n.Name())) // not if somebody just put a record there
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("dns records: %w", err)
	}
	return nil
}
