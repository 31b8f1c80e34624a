package api

import "time"

// ContainerHealth is what is known of a container's health check: GET /v1/stacks/{stack}/health, with `service` for each
// service that is meant.
type ContainerHealth struct {
	ID            string        `json:"id"`
	Name          string        `json:"name"`
	Service       string        `json:"service"`
	Replica       int           `json:"replica"`
	State         string        `json:"state"`
	Status        string        `json:"status"`         // starting, healthy, unhealthy; empty: there is no check, or it doesn't run
	FailingStreak int           `json:"failing_streak"` // failures in a row that count
	Restarts      int           `json:"restarts"`       // for ill health, since it was well for a while
	NextTry       time.Time     `json:"next_try,omitzero"`
	Log           []HealthProbe `json:"log,omitempty"` // the last ones, the latest last; also of the run before
}
