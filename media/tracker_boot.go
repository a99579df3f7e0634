package media

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vigil/fleet"
)

// findBoot decides whose counters the reading shows: those of the run seen before,
// of another worker of the same run, or of a new run.
func (s *step) findBoot() {
	now := originOf(s.r.Server.BootID, s.r.Server.StartedMs, s.r)
	if b := s.knownBoot(now); b != nil {
		b.retired = false
		s.b, s.basis = b, basisPrevious
		s.out.Server.BootID, s.out.Server.StartedMs = b.label, b.startedMs
		return
	}
	s.basis = basisNone
	if s.beganUnseen(now) {
		s.basis = basisZero
	}
	// A process that is not new, beside another that was seen a moment ago, is
	// another worker. Anything else replaces what was there.
	sibling := s.rules.workers && now.isKnown && len(s.boots) > 0 && (s.basis == basisNone || s.sameGeneration(now))
	if !sibling {
		s.replaceBoots()
	}
	s.b = &boot{
		origin: now, label: bootLabel(now), lastMs: s.r.MonoMs,
		streams: make(map[fleet.StreamKey]*stream), sessions: make(map[string]*session),
	}
	s.boots = append(s.boots, s.b)
	if len(s.boots) > maxBoots {
		s.forget(s.boots[0], "vanished")
		s.boots = slices.Delete(s.boots, 0, 1)
	}
	s.out.Server.BootID = s.b.label
	s.b.startedMs = s.r.Server.StartedMs
}

// sameGeneration reports whether another process began together with one that was
// seen, as the workers of one nginx do.
func (s *step) sameGeneration(now origin) bool {
	for _, b := range s.boots {
		if !b.retired && b.name != now.name && b.isKnown && near(b.monoMs, now.monoMs, s.toleranceMs) {
			return true
		}
	}
	return false
}

// knownBoot returns the boot whose counters the reading continues. A process number
// alone is not enough: in containers every run has the same one.
func (s *step) knownBoot(now origin) *boot {
	for _, b := range s.boots {
		if b.name == now.name && (s.rules.workers || now.name == "") {
			times := now
			times.name = ""
			if b.same(times, s.toleranceMs) {
				return b
			}
		} else if b.name == now.name {
			return b
		}
	}
	return nil
}

// bootLabel names a boot in snapshots: what the server printed and, because process
// numbers repeat, when it began.
func bootLabel(o origin) string {
	if !o.isKnown {
		return o.name
	}
	if _, err := strconv.Atoi(o.name); err == nil || o.name == "" {
		return fmt.Sprintf("%s@%d", o.name, o.wallMs/1000)
	}
	return o.name
}

func (t *Tracker) liveBoots() int {
	n := 0
	for _, b := range t.boots {
		if !b.retired {
			n++
		}
	}
	return n
}

// replaceBoots ends all runs seen before, because a new one has begun. After a
// restart their streams are gone; after a reload of nginx old workers go on serving
// them where nobody can see it.
func (s *step) replaceBoots() {
	if s.rules.workers && !s.looksLikeRestart() {
		for _, b := range s.boots {
			if !b.retired {
				s.hide(b)
			}
		}
		return
	}
	for _, b := range s.boots {
		s.forget(b, "server_restart")
	}
	s.boots = nil
}

// looksLikeRestart tells a restart of nginx from a reload. Connection numbers go on
// through a reload and begin anew with a restart; when the new worker has no
// connections yet, only a restart makes the server unreachable for a while.
func (s *step) looksLikeRestart() bool {
	var oldMax int64
	for _, b := range s.boots {
		if b.name == s.r.Server.BootID {
			return true // a reload never gives a worker the number of the one it replaces
		}
		oldMax = max(oldMax, b.maxConn)
	}
	lowest, found := s.lowestConn()
	if found && oldMax > 0 {
		return lowest <= oldMax
	}
	return s.unreachable
}

func (s *step) lowestConn() (lowest int64, found bool) {
	for i := range s.r.Sessions {
		if n, ok := connNumber(s.r.Sessions[i].ID); ok && (!found || n < lowest) {
			lowest, found = n, true
		}
	}
	return lowest, found
}

// connNumber is the number of the connection at the end of a session id.
func connNumber(id string) (int64, bool) {
	n, err := strconv.ParseInt(id[strings.LastIndexByte(id, '-')+1:], 10, 64)
	return n, err == nil
}

// hide marks a boot as replaced by a reload: its live streams go on unseen, its
// sessions end as far as we can know.
func (s *step) hide(b *boot) {
	b.retired = true
	s.endAll(b, "hidden")
	s.out.Flags |= fleet.FlagTailUnobserved
	for _, key := range sortedKeys(b.streams) {
		st := b.streams[key]
		if !st.isLive() {
			delete(b.streams, key)
			continue
		}
		st.state = fleet.StateHidden
		s.event(key, s.changedAt(), fleet.StateHidden, "reload")
	}
}

// forget gives up a boot: its streams and sessions are gone.
func (s *step) forget(b *boot, reason string) {
	s.endAll(b, reason)
	for _, key := range sortedKeys(b.streams) {
		if s.b != nil && s.b.streams[key] != nil && s.b.streams[key].isLive() {
			continue // it is back, and was reported so
		}
		if st := b.streams[key]; st.isLive() || st.state == fleet.StateHidden {
			s.out.Flags |= fleet.FlagTailUnobserved
			s.event(key, s.changedAt(), fleet.StateOffline, reason)
		}
	}
}

// changedAt is when the run that the reading shows began, if that was since the last
// good poll, and the time of the poll otherwise.
func (s *step) changedAt() int64 {
	if v, ok := s.r.Server.StartedMs.Get(); ok && v >= s.lastAtMs && v <= s.r.AtMs {
		return v
	}
	return s.r.AtMs
}

// showHidden adds a sample without numbers for every stream that may run where this
// poll cannot see it, and gives up those that have been hidden for too long or were
// hidden by what turns out to have been a restart.
func (s *step) showHidden() {
	restart := s.rules.workers && s.liveBoots() < len(s.boots) && s.foundRestart()
	kept := s.boots[:0]
	for _, b := range s.boots {
		switch {
		case b == s.b:
			kept = append(kept, b)
		case b.retired && restart:
			s.forget(b, "server_restart")
		case s.r.MonoMs-b.lastMs >= s.opts.HiddenFor.Milliseconds():
			s.forget(b, "vanished")
		default:
			s.showHiddenOf(b)
			if !b.retired || len(b.streams) > 0 {
				kept = append(kept, b)
			}
		}
	}
	clear(s.boots[len(kept):])
	s.boots = kept
}

// foundRestart looks for proof that the replaced boots are dead: a connection number
// that they had used.
func (s *step) foundRestart() bool {
	lowest, found := s.lowestConn()
	for _, b := range s.boots {
		if found && b.retired && b.maxConn >= lowest {
			return true
		}
	}
	return false
}

func (s *step) showHiddenOf(b *boot) {
	for _, key := range sortedKeys(b.streams) {
		st := b.streams[key]
		here := s.b.streams[key]
		if b.retired && here != nil && here.isLive() {
			delete(b.streams, key) // its publisher came to the new worker
			continue
		}
		if !st.isLive() && st.state != fleet.StateHidden {
			continue
		}
		if b.retired {
			s.reloaded++
		}
		if here != nil {
			continue
		}
		s.out.Streams = append(s.out.Streams, fleet.StreamSample{
			StreamInfo: fleet.StreamInfo{Key: key, Incarnation: st.label(), State: fleet.StateHidden, OnlineSinceMs: st.onlineSince},
			CoveredMs:  fleet.Of(0),
		})
	}
}
