package report

import (
	"math"
	"strconv"

	"vigil/fleet"
)

// Num is a number with a fraction that may be unknown. The zero value is unknown.
type Num struct {
	value float64
	known bool
}

// NumOf returns a known number. What is not finite is unknown.
func NumOf(v float64) Num {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Num{}
	}
	return Num{value: v, known: true}
}

// Get returns the number and whether it is known.
func (n Num) Get() (float64, bool) { return n.value, n.known }

// Known reports whether there is a number.
func (n Num) Known() bool { return n.known }

// MarshalJSON writes at most two decimals, and null for unknown.
func (n Num) MarshalJSON() ([]byte, error) {
	if !n.known {
		return []byte("null"), nil
	}
	return strconv.AppendFloat(nil, math.Round(n.value*100)/100, 'f', -1, 64), nil
}

// average is total divided by the time it was collected in.
func average(totalMs fleet.Int, coveredMs int64) Num {
	total, ok := totalMs.Get()
	if !ok || coveredMs <= 0 {
		return Num{}
	}
	return NumOf(float64(total) / float64(coveredMs))
}

// rate is bytes over a time, in bit/s.
func rate(bytes fleet.Int, coveredMs int64) Num {
	total, ok := bytes.Get()
	if !ok || coveredMs <= 0 {
		return Num{}
	}
	return NumOf(float64(total) * 8 * 1000 / float64(coveredMs))
}

func (n Num) times(k float64) Num {
	if !n.known {
		return n
	}
	return NumOf(n.value * k)
}

func (n Num) rounded() fleet.Int {
	if !n.known {
		return fleet.Int{}
	}
	return fleet.Of(int64(math.Round(n.value)))
}

// completePct is how much of the expected time was covered. Nothing expected, nothing
// to say. Polls that straddle the edge of a bucket may cover a little more than it.
func completePct(coveredMs, expectedMs int64) Num {
	if expectedMs <= 0 {
		return Num{}
	}
	return NumOf(min(100, 100*float64(coveredMs)/float64(expectedMs)))
}
