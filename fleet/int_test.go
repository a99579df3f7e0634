package fleet_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vigil/fleet"
)

func TestUnknownIsNotZero(t *testing.T) {
	t.Parallel()
	var unknown fleet.Int
	zero := fleet.Of(0)
	if unknown == zero || unknown.Known() || !zero.Known() {
		t.Fatal("an unknown number equals zero")
	}
	if unknown.String() != "-" || zero.String() != "0" {
		t.Fatalf("printed as %q and %q", unknown, zero)
	}
	if got := unknown.Plus(unknown); got.Known() {
		t.Fatalf("unknown + unknown = %v", got)
	}
	if got := unknown.Plus(fleet.Of(3)); got != fleet.Of(3) {
		t.Fatalf("unknown + 3 = %v", got)
	}
	if got := unknown.Max(fleet.Of(-3)); got != fleet.Of(-3) {
		t.Fatalf("max(unknown, -3) = %v", got)
	}
	if got := fleet.Of(2).Max(unknown); got != fleet.Of(2) {
		t.Fatalf("max(2, unknown) = %v", got)
	}
}

func TestIntJSON(t *testing.T) {
	t.Parallel()
	f := func(n fleet.Int, text string) {
		t.Helper()
		data, err := json.Marshal(n)
		if err != nil || string(data) != text {
			t.Errorf("Marshal(%v) = %s, %v; want %s", n, data, err, text)
		}
		back := fleet.Of(99)
		if err := json.Unmarshal([]byte(text), &back); err != nil || back != n {
			t.Errorf("Unmarshal(%s) = %v, %v; want %v", text, back, err, n)
		}
	}
	f(fleet.Int{}, "null")
	f(fleet.Of(0), "0")
	f(fleet.Of(-1<<63), "-9223372036854775808")
	f(fleet.Of(1<<63-1), "9223372036854775807")
	var n fleet.Int
	for _, bad := range []string{`"1"`, `1.5`, `true`, `9223372036854775808`} {
		if err := json.Unmarshal([]byte(bad), &n); err == nil {
			t.Errorf("Unmarshal(%s) = %v, want an error", bad, n)
		}
	}
}

func TestEveryKindTravels(t *testing.T) {
	t.Parallel()
	for k := fleet.KindInternal; k <= fleet.KindUnavailable; k++ {
		if got := fleet.KindNamed(k.String()); got != k {
			t.Errorf("KindNamed(%q) = %v, want %v", k.String(), got, k)
		}
		if k.HTTPStatus() < 400 || k.ExitCode() == 0 {
			t.Errorf("%v has status %d and exit code %d", k, k.HTTPStatus(), k.ExitCode())
		}
		if k.Temporary() != (k.HTTPStatus() >= 500) {
			t.Errorf("%v: temporary %v with status %d", k, k.Temporary(), k.HTTPStatus())
		}
	}
	if got := fleet.KindNamed("something new"); got != fleet.KindInternal {
		t.Errorf("an unknown kind is %v, want internal", got)
	}
}

func TestErrorShowsItsCauseOnlyInTheLog(t *testing.T) {
	t.Parallel()
	cause := &fleet.Error{Kind: fleet.KindMissing, Message: "no file"}
	err := &fleet.Error{Kind: fleet.KindBusy, Message: "the journal is slow", Hint: "wait", Err: cause}
	if got := fleet.KindOf(err); got != fleet.KindBusy {
		t.Errorf("KindOf = %v", got)
	}
	if diff := cmp.Diff("the journal is slow: no file", err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestNamesOfEnumerations(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for tech := range fleet.TechMaxKnown + 1 {
		if seen[tech.String()] {
			t.Errorf("two technologies are called %q", tech)
		}
		seen[tech.String()] = true
	}
	if got := fleet.Tech(200).String(); got != "tech-200" {
		t.Errorf("a technology from the future prints as %q", got)
	}
	if fleet.StatusParseError.HasNumbers() || !fleet.StatusPartial.HasNumbers() {
		t.Error("HasNumbers is wrong about parse_error or partial")
	}
}
