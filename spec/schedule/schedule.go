// Package schedule reads the schedules of jobs: crontab expressions in a time zone.
//
// An expression has five fields (minute, hour, day of month, month, day of week), or six with seconds in front, or is one of
// @hourly, @daily, @weekly, @monthly, @yearly and @every DURATION. A time that a change of the clock for the summer skips is
// made up for right after it; one that comes twice counts once.
package schedule

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // for hosts without the database of time zones

	"github.com/netresearch/go-cron"
)

// Schedule tells when something is due.
type Schedule struct {
	cron     cron.Schedule
	location *time.Location
}

var parser = cron.MustNewParser(cron.SecondOptional | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Parse reads an expression and the name of its time zone; an empty one is the host's.
func Parse(expression, zone string) (Schedule, error) {
	if strings.HasPrefix(expression, "TZ=") || strings.HasPrefix(expression, "CRON_TZ=") {
		return Schedule{}, fmt.Errorf("cron expression %q: the time zone goes under `timezone`", expression)
	}
	s := Schedule{location: time.Local}
	if zone != "" {
		location, err := time.LoadLocation(zone)
		if err != nil {
			return Schedule{}, fmt.Errorf("time zone %q: %w", zone, err)
		}
		s.location = location
	}
	var err error
	if s.cron, err = parser.Parse(expression); err != nil {
		return Schedule{}, fmt.Errorf("cron expression %q: %w", expression, err)
	}
	return s, nil
}

// Next is the first moment after t; zero for one that never comes, such as the 30th of February. What is due once an hour, or
// more often, goes on through an hour that comes twice; anything else is due in the first of them only.
func (s Schedule) Next(t time.Time) time.Time {
	t = t.In(s.location)
	next := s.cron.Next(t)
	if next.Sub(t) <= 2*time.Hour && sameClock(t, next) {
		if after := s.cron.Next(next); after.Sub(next) > time.Hour {
			return after
		}
	}
	return next
}

// sameClock tells whether a clock on the wall shows the same at two moments.
func sameClock(a, b time.Time) bool { return a.Format(time.DateTime) == b.Format(time.DateTime) }
