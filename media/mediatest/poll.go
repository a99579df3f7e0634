package mediatest

import (
	"net/http"
	"time"
)

// Poll is one answer of an emulator, as it was said.
type Poll struct {
	At     time.Time // by the emulator's clock; all numbers are true of this millisecond
	Path   string
	Status int   // HTTP; 0 when the connection was cut without an answer
	Fault  Fault // what was wrong with the answer
	// Whole says that a page with numbers was sent to its end, undamaged.
	Whole bool

	PID       int   // worker process (nginx)
	StartMs   int64 // when these counters of the server began, Unix ms; true time, without skew
	BytesIn   int64 // counters since StartMs (nginx; 0 for Icecast, which has none)
	BytesOut  int64
	Accepted  int64
	Streams   int // shown with a publisher
	Viewers   int // shown
	PerStream []StreamPoll
}

// StreamPoll is a stream in one answer.
type StreamPoll struct {
	App, Name  string // the true name
	Shown      string // as it was printed, before the escaping of the format
	SinceMs    int64  // when these counters began, Unix ms; true time
	BytesIn    int64  // counters since SinceMs
	BytesOut   int64
	Viewers    int
	Publishing bool
}

// Polls returns the remembered answers, oldest first.
func (e *Emulator) Polls() []Poll {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Poll(nil), e.polls...)
}

// ForgetPolls empties the memory of answers.
func (e *Emulator) ForgetPolls() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgot += int64(len(e.polls))
	e.polls = nil
}

// remember records an answer that is about to be sent and returns its number. The
// caller holds mu.
func (e *Emulator) remember(p Poll, status int, up bool) int64 {
	if e.opts.Record == RecordNothing {
		return -1
	}
	if up && !p.Fault.has(FaultReset) {
		p.Status = status
	}
	p.Whole = p.Status == http.StatusOK && p.StartMs != 0 && !p.Fault.damages()
	if len(e.polls) >= e.opts.MaxPolls {
		n := (e.opts.MaxPolls + 3) / 4 // many at once, so that each costs little
		e.polls = append(e.polls[:0], e.polls[n:]...)
		e.forgot += int64(n)
	}
	e.polls = append(e.polls, p)
	return e.forgot + int64(len(e.polls)) - 1
}

// settle corrects the record of an answer that could not be sent to its end.
func (e *Emulator) settle(number int64, status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := number - e.forgot; i >= 0 && i < int64(len(e.polls)) {
		e.polls[i].Status, e.polls[i].Whole = status, false
	}
}

// StreamName names a stream inside one server by its true name.
type StreamName struct{ App, Name string }

// Moved is by how much counters moved over a series of polls.
type Moved struct {
	BytesIn, BytesOut int64
}

// Sums adds up what a perfect reader can know from a series of answers: between two
// whole answers that follow each other, a counter that goes on moved by the
// difference, and one that began anew after the first answer moved by its value. The
// first answer is the baseline. What flowed out of sight (ended between two answers)
// is in no stream's sum. Answers that are not whole are passed over. Only answers of
// one path and one worker are meaningful together.
func Sums(polls []Poll) (server Moved, streams map[StreamName]Moved) {
	streams = map[StreamName]Moved{}
	var last *Poll
	for i := range polls {
		p := &polls[i]
		if !p.Whole {
			continue
		}
		if last != nil {
			server.BytesIn += moved(last.BytesIn, p.BytesIn, sameLife(last, p))
			server.BytesOut += moved(last.BytesOut, p.BytesOut, sameLife(last, p))
			addStreams(streams, last, p)
		}
		last = p
	}
	return server, streams
}

func sameLife(a, b *Poll) bool { return a.StartMs == b.StartMs && a.PID == b.PID }

func addStreams(sums map[StreamName]Moved, last, p *Poll) {
	before := make(map[StreamName]StreamPoll, len(last.PerStream))
	for _, st := range last.PerStream {
		before[StreamName{st.App, st.Name}] = st
	}
	for _, st := range p.PerStream {
		name := StreamName{st.App, st.Name}
		old, was := before[name]
		same := was && old.SinceMs == st.SinceMs && sameLife(last, p)
		sum := sums[name]
		sum.BytesIn += moved(old.BytesIn, st.BytesIn, same)
		sum.BytesOut += moved(old.BytesOut, st.BytesOut, same)
		sums[name] = sum
	}
}

func moved(before, now int64, same bool) int64 {
	if same {
		return now - before
	}
	return now
}
