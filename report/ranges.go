package report

import (
	"slices"
	"strings"
	"time"

	"vigil/fleet"
	"vigil/store"
)

// settle is how long the newest buckets are left alone: packets of the last interval
// are still on their way, and a bucket drawn too early looks like a dip.
const settle = 15 * time.Second

// intervalsPerBucket is how many polls a bucket should hold at least. With fewer, the
// edges of the bucket decide how many polls fall into it and the line gets teeth.
const intervalsPerBucket = 3

// Range is a span of the past that can be asked for.
type Range struct {
	Name   string        // as in URLs
	Label  string        // as on pages
	Length time.Duration // how far it reaches back
	Step   time.Duration // width of a bucket, unless agents poll too rarely for it
}

// DefaultRange is used when none is asked for.
const DefaultRange = "1h"

var ranges = [...]Range{
	{Name: "1h", Label: "Last hour", Length: time.Hour, Step: 30 * time.Second},
	{Name: "6h", Label: "Last 6 hours", Length: 6 * time.Hour, Step: 2 * time.Minute},
	{Name: "24h", Label: "Last 24 hours", Length: 24 * time.Hour, Step: 5 * time.Minute},
	{Name: "7d", Label: "Last 7 days", Length: 7 * 24 * time.Hour, Step: 30 * time.Minute},
	{Name: "30d", Label: "Last 30 days", Length: 30 * 24 * time.Hour, Step: 2 * time.Hour},
}

// steps are the widths a bucket may have. They divide a day, so that buckets of one
// width lie at the same times whenever they are asked for.
var steps = [...]time.Duration{
	30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour,
}

// Ranges lists the ranges, shortest first.
func Ranges() []Range { return slices.Clone(ranges[:]) }

// RangeNamed finds a range. The empty name is the default.
func RangeNamed(name string) (Range, error) {
	if name == "" {
		name = DefaultRange
	}
	known := make([]string, 0, len(ranges))
	for _, r := range ranges {
		if r.Name == name {
			return r, nil
		}
		known = append(known, r.Name)
	}
	return Range{}, &fleet.Error{
		Kind:    fleet.KindInvalid,
		Message: "The range is not one that can be asked for.",
		Hint:    "Use one of " + strings.Join(known, ", ") + ".",
	}
}

// stepFor widens the buckets of a range until each holds enough polls.
func (g Range) stepFor(interval time.Duration) time.Duration {
	want := max(g.Step, intervalsPerBucket*interval)
	for _, step := range steps {
		if step >= want {
			return step
		}
	}
	return steps[len(steps)-1]
}

// window is the span of whole, settled buckets that ends before now.
func (g Range) window(now time.Time, step time.Duration) store.Window {
	to := now.UTC().Add(-settle).Truncate(step)
	return store.Window{From: to.Add(-g.Length), To: to}
}
