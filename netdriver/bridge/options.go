package bridge

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stack-run/stack/netdriver"
)

// Options of a network that this driver knows, by the names that stack files use.
const (
	optMTU          = "com.docker.network.driver.mtu"
	optName         = "com.docker.network.bridge.name"
	optICC          = "com.docker.network.bridge.enable_icc"
	optMasquerade   = "com.docker.network.bridge.enable_ip_masquerade"
	optGatewayMode4 = "com.docker.network.bridge.gateway_mode_ipv4"
	optGatewayMode6 = "com.docker.network.bridge.gateway_mode_ipv6"
	// Read by netdriver.Manager: the address that ports are published at when the stack file names none.
	optHostBinding4 = netdriver.OptionHostBinding
	// Read by netdriver.Manager: what interface names start with.
	optInterfacePrefix = netdriver.OptionInterfacePrefix
)

type options struct {
	mtu        int    // 0: that of the host's way out
	name       string // of the link; empty: derived
	isolated   bool   // containers don't reach each other
	masquerade bool
}

// parse refuses, with all reasons at once, what the driver does not know.
func parse(given map[string]string) (options, error) {
	o := options{masquerade: true}
	var errs []error
	refuse := func(key, value, why string) {
		errs = append(errs, fmt.Errorf("option %s: %q: %s: %w", key, value, why, netdriver.ErrUnsupported))
	}
	boolean := func(key, value string) bool {
		b, err := strconv.ParseBool(value)
		if err != nil {
			refuse(key, value, "is neither true nor false")
		}
		return b
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		value := given[key]
		switch key {
		case optMTU, "mtu":
			n, err := strconv.Atoi(value)
			if err != nil || n < 68 || n > 65535 {
				refuse(key, value, "is not a number of bytes from 68 to 65535")
			}
			o.mtu = n
		case optName:
			if value == "" || len(value) >= unix.IFNAMSIZ || strings.ContainsAny(value, "/: \t\n%") || value == "." || value == ".." {
				refuse(key, value, "is not a name for a link (1 to 15 characters, no slash, colon or space)")
			}
			o.name = value
		case optICC:
			o.isolated = !boolean(key, value)
		case optMasquerade:
			o.masquerade = boolean(key, value)
		case optGatewayMode4, optGatewayMode6:
			if value != "nat" {
				refuse(key, value, "only nat is supported")
			}
		case optHostBinding4:
			if a, err := netip.ParseAddr(value); err != nil || !a.Is4() {
				refuse(key, value, "is not an IPv4 address")
			}
		case optInterfacePrefix:
			if value == "" || len(value) > 11 || strings.ContainsAny(value, "/: \t\n%") {
				refuse(key, value, "is not the start of a link name (1 to 11 characters)")
			}
		default:
			refuse(key, value, "the bridge driver does not know this option")
		}
	}
	return o, errors.Join(errs...)
}
