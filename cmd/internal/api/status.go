package api

import "time"

// StackStatus is a stack against what it is to be.
type StackStatus struct {
	Stack string `json:"stack"`
	OK    bool   `json:"ok"` // all is as it is to be, and nothing is to be done
	// Reconcile is what the daemon does about drift: repair, observe, suspended; or "nothing asked".
	Reconcile string          `json:"reconcile"`
	Error     string          `json:"error,omitempty"` // why the daemon can't tell what is to be done
	NextTry   time.Time       `json:"next_try,omitzero"`
	Addresses []AddressStatus `json:"addresses"`
}

// AddressStatus is one replica, network or volume.
type AddressStatus struct {
	Address   string    `json:"address"`
	Name      string    `json:"name"`
	State     string    `json:"state"`
	Condition string    `json:"condition"`
	Reason    string    `json:"reason,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Drift     string    `json:"drift,omitempty"`
	Next      string    `json:"next,omitempty"` // the action to come
	NextTry   time.Time `json:"next_try,omitzero"`
	Failures  int       `json:"failures,omitempty"` // of that action, in a row
	OK        bool      `json:"ok"`
}
