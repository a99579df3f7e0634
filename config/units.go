package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Errors of the unit parsers. Their texts are shown to people.
var (
	errDuration = errors.New("not a duration; write a number with a unit, such as 200ms, 10s, 5m, 2h or 30d")
	errSize     = errors.New("not a size; write a number with a unit, such as 64KiB, 512MiB or 2GiB")
)

const day = 24 * time.Hour

type unit struct {
	name  string
	bytes int64
}

// Longest names first, so that cutting a suffix finds the right one.
var sizeUnits = [...]unit{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15}, {"B", 1}, {"", 1},
}

// parseSize reads a size in bytes: a whole number and a unit, or bytes without one.
func parseSize(text string) (int64, error) {
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(digits), 10, 63)
		if err != nil || n > uint64(math.MaxInt64/u.bytes) {
			return 0, errSize
		}
		return int64(n) * u.bytes, nil
	}
	return 0, errSize
}

// formatSize writes n bytes with the largest binary unit that is exact.
func formatSize(n int64) string {
	for i := 4; i >= 0; i-- {
		if u := sizeUnits[i]; n != 0 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// parseDuration reads what time.ParseDuration reads, and days: "2d", "1d12h".
func parseDuration(text string) (time.Duration, error) {
	var days time.Duration
	rest := text
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseUint(before, 10, 31)
		if err != nil || n > uint64(math.MaxInt64/day) {
			return 0, errDuration
		}
		days, rest = time.Duration(n)*day, after
		if rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-days {
		return 0, errDuration
	}
	return days + d, nil
}

// formatDuration writes d the way people type it: 2d, 1h30m, 200ms.
func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	if n := d / day; n > 0 {
		fmt.Fprintf(&b, "%dd", n)
		d %= day
	}
	if d > 0 {
		text := d.String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		b.WriteString(text)
	}
	return b.String()
}
