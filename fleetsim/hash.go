package fleetsim

// mix is the finaliser of splitmix64: a bijection whose output bits all depend on
// all input bits. Every random choice of the simulation is a hash of what it is
// about, so it can be made again without having been remembered.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// hash2 combines a seed with one number.
func hash2(seed, a uint64) uint64 { return mix(seed ^ mix(a)) }

// hash3 combines a seed with two numbers.
func hash3(seed, a, b uint64) uint64 { return mix(hash2(seed, a) ^ mix(b+0x632be59bd9b4e019)) }

// below maps a hash to [0, n), n > 0.
func below(h uint64, n int64) int64 { return int64((h >> 1) % uint64(n)) }

// between maps a hash to [lo, hi].
func between(h uint64, lo, hi int64) int64 {
	if hi <= lo {
		return lo
	}
	return lo + below(h, hi-lo+1)
}

// floorDiv is a/b rounded down, for b > 0, and the remainder in [0, b).
func floorDiv(a, b int64) (quotient, remainder int64) {
	quotient, remainder = a/b, a%b
	if remainder < 0 {
		quotient, remainder = quotient-1, remainder+b
	}
	return quotient, remainder
}
