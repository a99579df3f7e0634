package demo

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"vigil/media/mediatest"
)

// How the past is made.
const (
	maxPast       = 24 * time.Hour
	pastEvery     = 30 * time.Second // between two polls: a bucket of the charts of an hour
	pastAtOnce    = 4                // servers at the same time
	pastEnds      = 5 * time.Second  // before the demo began: the agents of the demo take over from there
	awayOneIn     = 7                // one server in so many was away for a while
	awayFromShare = 0.55             // from this share of the past
	awayToShare   = 0.75             // to this one
)

// sendPast gives the service what agents would have recorded before the demo began: the
// same collectors and packets, with a clock that runs through the past. A few servers
// were away for a while, so that there is a gap to look at.
func (f *simulatedFleet) sendPast(ctx context.Context, to destination, began time.Time, past time.Duration) error {
	if past == 0 {
		return nil
	}
	token, err := os.ReadFile(to.tokenFile)
	if err != nil {
		return fmt.Errorf("read the agents' token: %w", err)
	}
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(pastAtOnce)
	at := func(share float64) time.Time { return began.Add(-past + time.Duration(share*float64(past))) }
	for i, e := range f.farm.Emulators() {
		spells := []mediatest.Spell{{From: at(0), To: began.Add(-pastEnds)}}
		if i%awayOneIn == awayOneIn/2 {
			spells = []mediatest.Spell{{From: at(0), To: at(awayFromShare)}, {From: at(awayToShare), To: began.Add(-pastEnds)}}
		}
		one := &mediatest.Past{Agent: e.Truth().Key(), Truth: e.Truth(), Every: pastEvery, Spells: spells}
		all.Go(func() error {
			_, err := one.Send(ctx, to.url, strings.TrimSpace(string(token)))
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return fmt.Errorf("make the past of the fleet: %w", err)
	}
	return nil
}
