package fleet

import (
	"bytes"
	"strconv"
)

// Int is a whole number that may be unknown. The zero value is unknown, so a
// field that nobody set never reads as zero.
type Int struct {
	value int64
	known bool
}

// Of returns the known number v.
func Of(v int64) Int { return Int{value: v, known: true} }

// Known reports whether the source said anything.
func (n Int) Known() bool { return n.known }

// Get returns the number and whether it is known.
func (n Int) Get() (int64, bool) { return n.value, n.known }

// Or returns the number, or fallback when it is unknown.
func (n Int) Or(fallback int64) int64 {
	if n.known {
		return n.value
	}
	return fallback
}

// Plus adds two numbers for totals: an unknown part is left out, and the sum is
// unknown only when both are.
func (n Int) Plus(m Int) Int {
	if !n.known {
		return m
	}
	if !m.known {
		return n
	}
	return Of(n.value + m.value)
}

// Max returns the larger of the known numbers.
func (n Int) Max(m Int) Int {
	if !n.known || (m.known && m.value > n.value) {
		return m
	}
	return n
}

// String prints the number, or a dash when it is unknown.
func (n Int) String() string {
	if !n.known {
		return "-"
	}
	return strconv.FormatInt(n.value, 10)
}

// MarshalJSON writes null for unknown.
func (n Int) MarshalJSON() ([]byte, error) {
	if !n.known {
		return []byte("null"), nil
	}
	return strconv.AppendInt(nil, n.value, 10), nil
}

// UnmarshalJSON reads a whole number or null.
func (n *Int) UnmarshalJSON(data []byte) error {
	if bytes.Equal(data, []byte("null")) {
		*n = Int{}
		return nil
	}
	v, err := strconv.ParseInt(string(data), 10, 64)
	if err != nil {
		return err
	}
	*n = Of(v)
	return nil
}
