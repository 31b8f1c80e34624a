package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Adjust changes how the log is kept from the next entry on: size and number of files, compression, attributes. Files
// beyond the new number are removed now, since no rotation would come to them. The driver and the path stay.
func (w *Writer) Adjust(c Config) error {
	w.packing.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.config.Driver == None {
		return nil
	}
	before := max(w.config.MaxFiles, 1)
	w.config.MaxSize, w.config.MaxFiles = c.MaxSize, c.MaxFiles
	pack := c.Compress && !w.config.Compress
	w.config.Compress, w.config.Attrs = c.Compress, c.Attrs
	w.attrs = encodeAttrs(c.Attrs)
	for n := max(c.MaxFiles, 1); n < before; n++ {
		for _, suffix := range []string{"", ".gz"} {
			if err := os.Remove(numbered(w.config.Path, n) + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("log: %w", err)
			}
		}
	}
	if pack {
		w.packLeft()
	}
	return nil
}
