package demo

import (
	"testing"
	"time"

	"vigil/fleet"
)

func TestThePastOfADemoIsNotInItsAccount(t *testing.T) {
	t.Parallel()
	r := runDemo(t, Options{Servers: 5, Streams: 50, Seed: 7, Interval: time.Second, Past: 5 * time.Minute, For: 6 * time.Second})
	if polls := int64(5 * time.Minute / pastEvery); r.SamplesStored < 4*polls*10 {
		t.Errorf("%d samples are stored, want those of %d polls of the past as well", r.SamplesStored, 4*polls)
	}
	if r.PacketsSpooled > 200 {
		t.Errorf("%d packets are in the account: the past is among them", r.PacketsSpooled)
	}
	if truth := r.BytesOutTrue.Or(0); truth == 0 || r.BytesOutReported > truth*1001/1000 {
		t.Errorf("%d bytes are reported of %d", r.BytesOutReported, truth)
	}
}

func TestARealFleetHasNoPast(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Past: -1}, {Past: maxPast + 1}, {Past: time.Hour, Real: true}} {
		if err := Run(t.Context(), o); fleet.KindOf(err) != fleet.KindInvalid {
			t.Errorf("Run(%+v) = %v; want an error of kind invalid", o, err)
		}
	}
}
