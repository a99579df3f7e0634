package config

import (
	"cmp"
	"strconv"
	"strings"
)

// compareOrigins orders problems as a person works through them: the file by line,
// then variables and flags by name.
func compareOrigins(a, b Problem) int {
	fileA, lineA := splitOrigin(a.Origin)
	fileB, lineB := splitOrigin(b.Origin)
	return cmp.Or(
		-cmp.Compare(min(lineA, 1), min(lineB, 1)), // those with a line first
		cmp.Compare(fileA, fileB),
		cmp.Compare(lineA, lineB),
		cmp.Compare(a.Key, b.Key),
	)
}

func splitOrigin(origin string) (file string, line int) {
	i := strings.LastIndexByte(origin, ':')
	if i < 0 {
		return origin, 0
	}
	line, err := strconv.Atoi(origin[i+1:])
	if err != nil {
		return origin, 0
	}
	return origin[:i], line
}
