package planner

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/stack-run/stack/spec"
)

// NetworkDigest is a stable hash ("sha256:<hex>") of the options that a network is made with. The network is made again
// when it differs, so that labels don't count, nor how the stack file refers to it. Defaults that are written out
// (`driver: bridge`, `enable_ipv4: true`) make no difference.
func NetworkDigest(n spec.Network) string {
	if n.Driver == "bridge" {
		n.Driver = ""
	}
	if n.IPAMDriver == "default" {
		n.IPAMDriver = ""
	}
	if n.EnableIPv4 != nil && *n.EnableIPv4 {
		n.EnableIPv4 = nil
	}
	if n.EnableIPv6 != nil && !*n.EnableIPv6 {
		n.EnableIPv6 = nil
	}
	n.Key, n.External, n.Attachable, n.Labels = "", false, false, nil
	return digest(n)
}

// VolumeDigest is a stable hash ("sha256:<hex>") of the options that a volume is made with: its driver and the driver's
// options. Labels don't count, nor does `driver: local`, the default.
func VolumeDigest(v spec.Volume) string {
	if v.Driver == "local" {
		v.Driver = ""
	}
	v.Key, v.External, v.Labels = "", false, nil
	return digest(v)
}

func digest(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("planner: marshal %T: %v", v, err)) // plain data always marshals
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
