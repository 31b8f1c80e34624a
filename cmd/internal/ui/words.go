package ui

import (
	"strings"

	"github.com/stack-run/stack/cmd/internal/api"
	"github.com/stack-run/stack/planner"
)

// words are what progress says about one kind of action, as `docker compose` words it.
type words struct{ noun, doing, done string }

var vocabulary = map[planner.Kind]words{
	planner.PullImage:        {"Image", "Pulling", "Pulled"},
	planner.RemoveImage:      {"Image", "Removing", "Removed"},
	planner.CreateNetwork:    {"Network", "Creating", "Created"},
	planner.RepairNetwork:    {"Network", "Repairing", "Repaired"},
	planner.RemoveNetwork:    {"Network", "Removing", "Removed"},
	planner.CreateVolume:     {"Volume", "Creating", "Created"},
	planner.RepairVolume:     {"Volume", "Repairing", "Repaired"},
	planner.RemoveVolume:     {"Volume", "Removing", "Removed"},
	planner.CreateContainer:  {"Container", "Creating", "Created"},
	planner.StartContainer:   {"Container", "Starting", "Started"},
	planner.StopContainer:    {"Container", "Stopping", "Stopped"},
	planner.KillContainer:    {"Container", "Killing", "Killed"},
	planner.RemoveContainer:  {"Container", "Removing", "Removed"},
	planner.UpdateContainer:  {"Container", "Updating", "Updated"},
	planner.RepairContainer:  {"Container", "Repairing", "Repaired"},
	planner.PauseContainer:   {"Container", "Pausing", "Paused"},
	planner.UnpauseContainer: {"Container", "Unpausing", "Unpaused"},
	planner.PreStart:         {"Container", "Running pre_start of", "Prepared"},
	planner.PostStart:        {"Container", "Running post_start of", "Ready"},
	planner.AddJob:           {"Job", "Scheduling", "Scheduled"},
	planner.UpdateJob:        {"Job", "Updating", "Updated"},
	planner.RemoveJob:        {"Job", "Removing", "Removed"},
	planner.SuspendJob:       {"Job", "Suspending", "Suspended"},
	planner.ResumeJob:        {"Job", "Resuming", "Resumed"},
	planner.ServeContainer:   {"Container", "Waiting", "Serving"},
	planner.DrainContainer:   {"Container", "Draining", "Drained"},
	planner.RenameContainer:  {"Container", "Renaming", "Renamed"},
	planner.Monitor:          {"Service", "Watching", "Good"},
	planner.Delay:            {"Service", "Pausing", "Going on"},
	planner.Wait:             {"Service", "Waiting", "Ready"},
}

// subject is what an event is about: "Container demo-web-1". An event without a known action speaks for itself.
func subject(e api.Event) string {
	w, known := vocabulary[planner.Kind(e.Action)]
	switch {
	case !known && e.Name == "":
		return e.Address
	case !known:
		return e.Name
	case e.Name == "":
		_, key, _ := strings.Cut(e.Address, ".") // service.db: the noun says the rest
		return w.noun + " " + key
	}
	return w.noun + " " + e.Name
}

// status is the event's verb; a text that comes with the event says it better.
func status(e api.Event) string {
	w := vocabulary[planner.Kind(e.Action)]
	switch {
	case e.Kind == "fail":
		return "Error"
	case e.Text != "" && e.Kind == "done":
		return e.Text
	case e.Kind == "done":
		return w.done
	default:
		return w.doing
	}
}

// failure is the short form of a failed event's error.
func failure(e api.Event) string {
	if e.Error == nil {
		return e.Text
	}
	return e.Error.Message
}
