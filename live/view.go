package live

import (
	"time"

	"vigil/fleet"
)

// View is what is on air now. Safe for concurrent use.
type View struct{}

var _ Reader = (*View)(nil)

// New returns an empty view.
func New() *View { return &View{} }

// Apply puts one snapshot into the view. One that is older than what is shown of its
// server changes nothing.
func (v *View) Apply(agent string, received time.Time, s *fleet.Snapshot) {}

func (v *View) Totals(now time.Time) Totals                              { return Totals{} }
func (v *View) Servers(now time.Time) []ServerRow                        { return nil }
func (v *View) Server(now time.Time, key string) (ServerRow, bool)       { return ServerRow{}, false }
func (v *View) Streams(now time.Time, q StreamQuery) (StreamPage, error) { return StreamPage{}, nil }
func (v *View) Stream(now time.Time, key fleet.StreamKey) (StreamRow, bool) {
	return StreamRow{}, false
}
func (v *View) Version() uint64          { return 0 }
func (v *View) Changed() <-chan struct{} { return nil }
