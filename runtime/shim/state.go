package shim

import (
	"encoding/json"
	"os"
	"path/filepath"
)

// ReadState reads the state that the shim last wrote into a container's bundle: what is known when no shim lives. It fails
// with an error of os.ErrNotExist when the container was never started.
func ReadState(bundle string) (State, error) {
	var s State
	data, err := os.ReadFile(filepath.Join(bundle, "state.json"))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	return s, err
}
