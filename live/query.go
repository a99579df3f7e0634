package live

import (
	"maps"
	"slices"
	"strings"
	"time"

	"vigil/fleet"
)

const (
	maxRows        = 1000
	maxSearchBytes = 256
)

var (
	sorts  = [...]string{"viewers", "in_bps", "out_bps", "name", "server", "since"}
	states = [...]string{"", "online", "idle", "offline", "hidden", "silent"}
)

// A filter is a StreamQuery made ready.
type filter struct {
	words []string
	state string
	now   time.Time

	perServer map[*server]serverFacts
}

type serverFacts struct {
	silent bool
	words  []string // that the server's key does not contain
}

// Streams lists streams. When there are many of them the order may be up to a second
// old; the numbers are those of now.
func (v *View) Streams(now time.Time, q StreamQuery) (StreamPage, error) {
	if err := q.check(); err != nil {
		return StreamPage{}, err
	}
	if q.Sort == "" {
		q.Sort = sorts[0]
	}
	var list []*stream
	if q.Server == "" {
		list = v.ordered(now, q.Sort, q.Ascending)
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if srv := v.servers[q.Server]; srv != nil {
		list = slices.Collect(maps.Values(srv.streams))
		sortFew(list, q.Sort, q.Ascending)
	}
	page := StreamPage{Total: int64(v.count), AsOfMs: v.asOfMs, Rows: []StreamRow{}}
	f := filter{words: strings.Fields(strings.ToLower(q.Search)), state: q.State, now: now, perServer: map[*server]serverFacts{}}
	everything := q.Server == "" && q.State == "" && len(f.words) == 0
	for _, st := range list {
		if st.gone || !f.matches(st) {
			continue
		}
		if page.Matched >= int64(q.Offset) {
			if len(page.Rows) < q.Limit {
				page.Rows = append(page.Rows, st.rowOf(f.facts(st.server).silent))
			} else if everything {
				break // how many match is known
			}
		}
		page.Matched++
	}
	if everything {
		page.Matched = int64(v.count - v.offline)
	}
	return page, nil
}

func (q *StreamQuery) check() error {
	switch {
	case q.Sort != "" && !slices.Contains(sorts[:], q.Sort):
		return invalid("Streams cannot be sorted by this.", "Sort by one of "+strings.Join(sorts[:], ", ")+".")
	case !slices.Contains(states[:], q.State):
		return invalid("Streams have no such state.", "Take one of "+strings.Join(states[1:], ", ")+".")
	case q.Limit < 1 || q.Limit > maxRows || q.Offset < 0:
		return invalid("The page of streams is not possible.", "Take a limit from 1 to 1000 and an offset from 0.")
	case len(q.Search) > maxSearchBytes:
		return invalid("The search text is too long.", "Take at most 256 bytes.")
	}
	return nil
}

func invalid(message, hint string) error {
	return &fleet.Error{Kind: fleet.KindInvalid, Message: message, Hint: hint}
}

func (f *filter) facts(srv *server) serverFacts {
	facts, done := f.perServer[srv]
	if done {
		return facts
	}
	facts.silent = srv.silent(f.now)
	for _, word := range f.words {
		if !strings.Contains(srv.lower, word) {
			facts.words = append(facts.words, word)
		}
	}
	f.perServer[srv] = facts
	return facts
}

func (f *filter) matches(st *stream) bool {
	switch f.state {
	case "":
		if st.state == fleet.StateOffline {
			return false
		}
	case "silent":
		if st.state == fleet.StateOffline || !f.facts(st.server).silent {
			return false
		}
	default:
		if st.state.String() != f.state {
			return false
		}
	}
	if len(f.words) == 0 {
		return true
	}
	for _, word := range f.facts(st.server).words {
		if !st.contains(word) {
			return false
		}
	}
	return true
}
