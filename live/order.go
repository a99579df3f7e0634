package live

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// refreshEvery is how old a cached order may be while the view changes.
	refreshEvery = time.Second
	// alwaysFresh is the number of streams up to which an order is never older than the
	// last change: sorting so few takes milliseconds.
	alwaysFresh = 10_000
)

// The orders that streams are listed in. By value they are sorted anew; by name they are
// merged, because sorting hundreds of thousands of names takes too long.
type orders struct {
	mu      sync.Mutex // held while an order is made; taken before View.mu
	names   []*stream
	byName  made
	byOther map[orderKey]*order
}

type orderKey struct {
	sort      string
	ascending bool
}

type order struct {
	made
	streams []*stream
}

// made is when an order was made and of what.
type made struct {
	at      time.Time
	version uint64
}

func (m made) fresh(now time.Time, version uint64, count int) bool {
	if m.version == version {
		return true
	}
	age := now.Sub(m.at)
	return count > alwaysFresh && 0 <= age && age < refreshEvery
}

// ordered returns all streams in an order. The result is never changed again; streams
// that have gone since are marked.
func (v *View) ordered(now time.Time, sort string, ascending bool) []*stream {
	o := &v.orders
	o.mu.Lock()
	defer o.mu.Unlock()
	v.mu.RLock()
	version, members, count := v.version, v.members, v.count
	v.mu.RUnlock()
	key := orderKey{sort, ascending}
	if o.byOther == nil {
		o.byOther = map[orderKey]*order{}
	}
	if have := o.byOther[key]; have != nil && have.fresh(now, version, count) {
		return have.streams
	}
	v.refreshNames(now, members, count)
	made := &order{made: made{now, version}}
	switch sort {
	case "name":
		made.streams = o.names
	case "server":
		made.streams = v.byValue(o.names, sort, true)
	default:
		made.streams = v.byValue(o.names, sort, ascending)
	}
	if !ascending && (sort == "name" || sort == "server") {
		made.streams = slices.Clone(made.streams)
		slices.Reverse(made.streams)
	}
	o.byOther[key] = made
	return made.streams
}

// refreshNames brings the order by name up to date: streams that came are sorted and
// merged in, streams that went are left out.
func (v *View) refreshNames(now time.Time, members uint64, count int) {
	o := &v.orders
	if o.byName.fresh(now, members, count) {
		return
	}
	v.mu.Lock()
	added := v.added
	v.added = nil
	members = v.members
	v.mu.Unlock()
	slices.SortFunc(added, compareNames)
	merged := make([]*stream, 0, len(o.names)+len(added))
	v.mu.RLock()
	i, j := 0, 0
	for i < len(o.names) || j < len(added) {
		var next *stream
		if j == len(added) || (i < len(o.names) && compareNames(o.names[i], added[j]) <= 0) {
			next, i = o.names[i], i+1
		} else {
			next, j = added[j], j+1
		}
		if !next.gone {
			merged = append(merged, next)
		}
	}
	v.mu.RUnlock()
	o.names = merged
	o.byName = made{now, members}
}

// compareNames orders by name, then server, then the rest. It reads only what never changes.
func compareNames(a, b *stream) int {
	return cmp.Or(strings.Compare(a.name(), b.name()), strings.Compare(a.server.key, b.server.key),
		strings.Compare(a.app(), b.app()), strings.Compare(a.packed, b.packed))
}

type valued struct {
	value  uint64
	stream *stream
}

// byValue sorts by a number. Unknown ones come last whatever the direction, equal ones
// by name: the list is in that order, and the sort keeps it.
func (v *View) byValue(names []*stream, sort string, ascending bool) []*stream {
	list := make([]valued, len(names))
	v.mu.RLock()
	if sort == "server" {
		for i, srv := range v.sorted {
			srv.rank = int64(i) // only read and written while orders.mu is held
		}
	}
	for i, st := range names {
		list[i] = valued{sortable(st.value(sort), ascending), st}
	}
	v.mu.RUnlock()
	list = radixSort(list)
	streams := make([]*stream, len(list))
	for i := range list {
		streams[i] = list[i].stream
	}
	return streams
}

// sortable maps a number to one that sorts upwards. Values are never negative.
func sortable(n int64, ascending bool) uint64 {
	switch {
	case n == unknown:
		return 1 << 63
	case ascending:
		return uint64(n)
	}
	return 1<<63 - 1 - uint64(n)
}

// radixSort sorts by value and keeps the order of equal ones. It leaves out the digits
// that are the same everywhere: three or four passes for real numbers.
func radixSort(list []valued) []valued {
	const digit, size = 11, 1 << 11
	differ := uint64(0)
	for i := range list {
		differ |= list[i].value ^ list[0].value
	}
	other := make([]valued, len(list))
	for shift := 0; shift < 64; shift += digit {
		if differ>>shift&(size-1) == 0 {
			continue
		}
		var starts [size]int32
		for i := range list {
			starts[list[i].value>>shift&(size-1)]++
		}
		sum := int32(0)
		for d := range starts {
			starts[d], sum = sum, sum+starts[d]
		}
		for i := range list {
			d := list[i].value >> shift & (size - 1)
			other[starts[d]] = list[i]
			starts[d]++
		}
		list, other = other, list
	}
	return list
}

func (st *stream) value(sort string) int64 {
	switch sort {
	case "in_bps":
		return st.inBps
	case "out_bps":
		return st.outBps
	case "since":
		return st.onlineMs
	case "server":
		return st.server.rank
	}
	return st.viewers
}

// sortFew sorts the streams of one server, without any cached order. The caller holds View.mu.
func sortFew(list []*stream, sort string, ascending bool) {
	slices.SortFunc(list, func(a, b *stream) int {
		if sort == "name" || sort == "server" {
			if !ascending {
				a, b = b, a
			}
			return compareNames(a, b)
		}
		return cmp.Or(cmp.Compare(sortable(a.value(sort), ascending), sortable(b.value(sort), ascending)), compareNames(a, b))
	})
}

// Warm makes the orders that the first page needs, so that it does not wait for them.
func (v *View) Warm(now time.Time) { v.ordered(now, sorts[0], false) }
