package schedule

import (
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	for name, c := range map[string]struct{ cron, zone, after, want string }{
		"five fields":                 {"30 4 * * *", "UTC", "2026-01-01T04:30:00Z", "2026-01-02T04:30:00Z"},
		"seconds in front":            {"*/10 * * * * *", "UTC", "2026-01-01T00:00:05Z", "2026-01-01T00:00:10Z"},
		"a word":                      {"@daily", "UTC", "2026-01-01T00:00:01Z", "2026-01-02T00:00:00Z"},
		"another time zone":           {"0 9 * * mon-fri", "America/New_York", "2026-01-02T15:00:00Z", "2026-01-05T14:00:00Z"},
		"day of month or of week":     {"0 0 13 * fri", "UTC", "2026-02-09T00:00:00Z", "2026-02-13T00:00:00Z"},
		"never":                       {"0 0 30 2 *", "UTC", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z"},
		"a time that the clock skips": {"30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"},
		"and the day after it":        {"30 2 * * *", "Europe/Berlin", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"},
		"a time that comes twice":     {"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		"every hour of them":          {"0 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"},
		"counts once":                 {"30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Parse(c.cron, c.zone)
			if err != nil {
				t.Fatal(err)
			}
			after, err := time.Parse(time.RFC3339, c.after)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Next(after).UTC().Format(time.RFC3339); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range [][2]string{{"", ""}, {"* * * *", ""}, {"61 * * * *", ""}, {"@sometimes", ""}, {"* * * * *", "Mars/Olympus"}, {"TZ=UTC * * * * *", ""}, {"* * * * * * *", ""}} {
		if _, err := Parse(c[0], c[1]); err == nil {
			t.Errorf("%q in %q is no schedule", c[0], c[1])
		}
	}
}
