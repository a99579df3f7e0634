package lifecycle

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Marker is a file that is there while the process runs. When a start finds it, the
// last run did not end well. The three functions store it; the caller gives ones that
// are durable.
type Marker struct {
	Read   func() ([]byte, error) // fs.ErrNotExist when there is none
	Write  func([]byte) error
	Remove func() error
}

// Begin looks for the marker of the last run and writes one for this run. When
// unclean is true, since is the start of the run that did not end well, or zero when
// the marker cannot be read.
func (m Marker) Begin(now time.Time) (unclean bool, since time.Time, err error) {
	data, err := m.Read()
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return false, time.Time{}, fmt.Errorf("read run marker: %w", err)
	default:
		unclean = true
		// A marker that a crash left empty or torn still says that there was one.
		if t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(data))); err == nil {
			since = t
		}
	}
	if err := m.Write([]byte(now.UTC().Format(time.RFC3339) + "\n")); err != nil {
		return false, time.Time{}, fmt.Errorf("write run marker: %w", err)
	}
	return unclean, since, nil
}

// End removes the marker: this run ended well.
func (m Marker) End() error {
	if err := m.Remove(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove run marker: %w", err)
	}
	return nil
}
