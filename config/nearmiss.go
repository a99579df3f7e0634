package config

import "fmt"

// didYouMean returns "; did you mean ...?" when one of the words is close to got, or
// nothing.
func didYouMean(got string, words []string) string {
	best, bestDistance := "", max(2, len(got)/3)+1
	for _, word := range words {
		if d := distance(got, word); d < bestDistance && d < len(word) {
			best, bestDistance = word, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is the number of bytes to insert, delete or replace to make a into b
// (Levenshtein).
func distance(a, b string) int {
	if len(a) > maxNameBytes || len(b) > maxNameBytes {
		return maxNameBytes
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
