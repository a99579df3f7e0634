package media

import (
	"math"
	"strconv"

	"vigil/fleet"
)

// maxInterned bounds the strings that one collector remembers.
const maxInterned = 50_000

// maxStringBytes bounds one string taken from a server. Names of nginx-rtmp are at
// most 256 bytes, mounts and user agents a few hundred.
const maxStringBytes = 1024

// interner returns the same string for the same bytes. Names, addresses and codecs
// repeat at every poll; without it they would be most of the garbage.
type interner struct {
	known map[string]string
	ips   map[string]string // address as printed -> address alone
	buf   []byte
}

// joined returns a-b.
func (in *interner) joined(a, b string) string {
	in.buf = append(append(append(in.buf[:0], a...), '-'), b...)
	return in.string(in.buf)
}

// ip returns ipOf(s), remembered.
func (in *interner) ip(s string) string {
	if ip, ok := in.ips[s]; ok {
		return ip
	}
	if in.ips == nil || len(in.ips) >= maxInterned {
		in.ips = make(map[string]string, 64)
	}
	ip := ipOf(s)
	in.ips[s] = ip
	return ip
}

func (in *interner) string(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > maxStringBytes {
		b = b[:maxStringBytes]
	}
	if s, ok := in.known[string(b)]; ok {
		return s
	}
	if in.known == nil || len(in.known) >= maxInterned {
		in.known = make(map[string]string, 64)
	}
	s := string(b)
	in.known[s] = s
	return s
}

// count reads a whole number that cannot be negative. Anything else, and what does
// not fit, is unknown: some servers print 2^64 minus something for a gauge that
// went below zero.
func count(b []byte) fleet.Int {
	v, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil || v > math.MaxInt64 {
		return fleet.Int{}
	}
	return fleet.Of(int64(v))
}

// maxGauge is the largest number of connections that is believed.
const maxGauge = 100_000_000

// gauge reads a number of connections or the like.
func gauge(b []byte) fleet.Int {
	n := count(b)
	if v, ok := n.Get(); !ok || v > maxGauge {
		return fleet.Int{}
	}
	return n
}

// milli reads a number with a fraction as thousandths.
func milli(b []byte) fleet.Int {
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil || !(v >= 0 && v < 1e9) {
		return fleet.Int{}
	}
	return fleet.Of(int64(math.Round(v * 1000)))
}

// positive reads a size; the zero that nginx-rtmp prints before it knows means
// unknown.
func positive(b []byte) fleet.Int {
	n := gauge(b)
	if n.Or(1) == 0 {
		return fleet.Int{}
	}
	return n
}
