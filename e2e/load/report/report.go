// Package report is what a load says of itself.
package report

import "fmt"

// Report is what came of a load.
type Report struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	Retried  int            `json:"retried"` // by the client, as HTTP allows
	Errors   map[string]int `json:"errors,omitempty"`
	Answers  map[string]int `json:"answers"`
	// Longest a request took, and how long there was no answer at all, in milliseconds.
	Longest float64 `json:"longest_ms"`
	Silence float64 `json:"silence_ms"`
	Seconds float64 `json:"seconds"`
}

func (r Report) String() string {
	return fmt.Sprintf("%d requests in %.1f s, %d failed, %d sent again as HTTP allows, the longest %.0f ms, the longest time without an answer %.0f ms",
		r.Requests, r.Seconds, r.Failed, r.Retried, r.Longest, r.Silence)
}
