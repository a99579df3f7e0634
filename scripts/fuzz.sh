#!/bin/bash
# Runs every fuzz target for FUZZTIME, one after the other. The targets are found by
# their name, so none is forgotten.
set -eu

go=${GO:-go}
time=${FUZZTIME:-30s}

grep -rn --include='*_test.go' -E '^func Fuzz[A-Za-z0-9_]+' . | sort | while IFS=: read -r file _ text; do
	target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]+).*/\1/' <<<"$text")
	echo "== $target in $(dirname "$file")"
	"$go" test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$(dirname "$file")" </dev/null
done
