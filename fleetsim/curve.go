package fleetsim

// The audience follows a raised cosine over the day with its peak in the middle and
// a floor: nightPercent of the seats are in use around the clock.
const (
	nightPercent = 25
	curveSteps   = 16
)

// curveHalfWidth returns for how long before and after the peak the k-th of n seats
// is in use. A seat is in use while the curve is above the seat's threshold, so the
// seats that are in use at one instant trace the curve.
func curveHalfWidth(k, n int, day int64) int64 {
	// acosTable[i] is 2^15 * acos(2*i/16 - 1) / pi: where a cosine crosses i/16 of its
	// way from the bottom to the top. Integers, so that all machines agree.
	acosTable := [curveSteps + 1]int64{
		32768, 27497, 25230, 23426, 21845, 20393, 19020, 17691, 16384,
		15077, 13748, 12375, 10923, 9342, 7538, 5271, 0,
	}
	threshold := (2*int64(k) + 1) * 100 * (1 << 15) / (2 * int64(n)) // hundredths x 2^15
	night := int64(nightPercent) << 15
	if threshold <= night {
		return (day + 1) / 2
	}
	// position in [0, curveSteps<<15) from the bottom to the top of the cosine
	position := (threshold - night) * curveSteps / (100 - nightPercent)
	i, rest := position>>15, position&(1<<15-1)
	if i >= curveSteps {
		return 0
	}
	width := acosTable[i] - (acosTable[i]-acosTable[i+1])*rest>>15
	return day * width >> 16
}
