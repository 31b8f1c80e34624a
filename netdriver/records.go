package netdriver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

const recordSuffix = ".json"

// recordPath relies on goodName: no network name leads out of the folder.
func recordPath(root, name string) string { return filepath.Join(root, name+recordSuffix) }

// newRecord begins the names of records that are not in place yet.
const newRecord = ".new-"

// loadRecords reads all records; a folder that is not there has none.
func loadRecords(root string) ([]Network, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("network records: %w", err)
	}
	var out []Network
	for _, e := range entries {
		path := filepath.Join(root, e.Name())
		if strings.HasPrefix(e.Name(), newRecord) { // a crash left it before it was in place
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("network record: %w", err)
			}
			continue
		}
		if !strings.HasSuffix(e.Name(), recordSuffix) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("network record: %w", err)
		}
		var n Network
		if err := json.Unmarshal(b, &n); err != nil {
			return nil, fmt.Errorf("network record %s: %w", path, err)
		}
		out = append(out, n)
	}
	return out, nil
}

// saveRecord puts a whole record in place, or none. durable also waits for the disk: not needed before the kernel's part
// is made, since a power cut takes that as well.
func saveRecord(root string, n Network, durable bool) error {
	b, err := json.MarshalIndent(n, "", "\t")
	if err != nil {
		return fmt.Errorf("network record: %w", err)
	}
	if err := os.MkdirAll(root, 0o711); err != nil {
		return fmt.Errorf("network record: %w", err)
	}
	path := recordPath(root, n.Name)
	tmp, err := os.CreateTemp(root, newRecord+"*")
	if err != nil {
		return fmt.Errorf("network record: %w", err)
	}
	_, err = tmp.Write(append(b, '\n'))
	if err == nil && durable {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("network record: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return nil
}

func removeRecord(root, name string) error {
	if err := os.Remove(recordPath(root, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network record: %w", err)
	}
	return nil
}

// idOf gives built-in networks an id that stays.
func idOf(seed, name string) string {
	h := sha256.Sum256([]byte(seed + "\x00" + name))
	return hex.EncodeToString(h[:])
}

// HardwareAddr is the link address of the interface with address a: locally administered, and the same for the same
// address, so that neighbours' caches stay right when a container is replaced.
func HardwareAddr(a netip.Addr) net.HardwareAddr {
	if a.Is4() {
		b := a.As4()
		return net.HardwareAddr{0x02, 0x42, b[0], b[1], b[2], b[3]}
	}
	h := sha256.Sum256(a.AsSlice())
	return net.HardwareAddr{0x02, 0x43, h[0], h[1], h[2], h[3]}
}
