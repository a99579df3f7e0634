package agent

import (
	"fmt"
	"testing"
	"time"

	"vigil/durable/durabletest"
	"vigil/fleet"
)

func TestEveryIntervalBecomesOnePacket(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(10 * time.Minute)
		bytesIn, packets, _ := w.service.received()
		if packets < 59 || packets > 61 {
			w.Errorf("%d packets in 10 minutes", packets)
		}
		if want := w.servers["s1"].truth() + w.servers["s2"].truth(); bytesIn != want {
			w.Errorf("service counted %d bytes, servers %d", bytesIn, want)
		}
		st := w.agent.Stats()
		if st.PacketsSpooled != uint64(packets) || st.PacketsAcknowledged != uint64(packets) || st.Backlog != 0 || st.PacketsStoredByService != uint64(packets) {
			w.Errorf("stats %+v, received %d", st, packets)
		}
		if requests, repeats := w.service.numbers(); requests != int(packets) || repeats != 0 {
			w.Errorf("%d requests, %d repeats for %d packets", requests, repeats, packets)
		}
		for _, p := range w.service.packets {
			if len(p.Snapshots) != 2 {
				w.Errorf("packet %s has %d snapshots", p.ID, len(p.Snapshots))
			}
		}
		w.accountedFor()
		if list := w.health.List(); len(list) != 0 {
			w.Errorf("conditions %+v", list)
		}
	})
}

// Whatever the service does for an hour, afterwards every packet is there, once, and
// the sums are the servers' own.
func TestOutagesLoseNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []fault{busy, bad500, hangs, breaks, storedBreak, storedHang, noToken, portal, proxyLimit} {
		t.Run(string(mode), func(t *testing.T) {
			bubble(t, func(w *world) {
				w.start()
				w.run(5 * time.Minute)
				w.service.set(mode)
				w.run(time.Hour)
				if !w.agent.Stats().Offline && mode != proxyLimit {
					w.Error("the agent does not notice")
				}
				if !w.condition(codeService) {
					w.Error("no condition")
				}
				requests, _ := w.service.numbers()
				if requests > 800 {
					w.Errorf("%d requests to a service that is away", requests)
				}
				w.service.set(works)
				w.run(30 * time.Minute)
				st := w.agent.Stats()
				if st.Offline || st.Backlog > 1 || st.Rejected != 0 || st.Lost != 0 {
					w.Errorf("stats %+v", st)
				}
				w.accountedFor()
				w.stopAndCompare()
				if w.condition(codeService) {
					w.Error("the condition stays")
				}
			})
		})
	}
}

// stopAndCompare lets the last packet arrive and compares the sums.
// However long the service was away, it is found soon after it is back, and by no more
// requests than in good times.
func TestAServiceThatComesBackIsFoundWithinAnInterval(t *testing.T) {
	t.Parallel()
	for _, mode := range []fault{bad500, breaks} {
		t.Run(string(mode), func(t *testing.T) {
			bubble(t, func(w *world) {
				w.start()
				w.run(time.Minute)
				w.service.set(mode)
				before, _ := w.service.numbers()
				const away = 2 * time.Hour
				w.run(away)
				if after, _ := w.service.numbers(); after-before > int(away/w.agent.interval())*3/2 {
					w.Errorf("%d requests in %v without an answer", after-before, away)
				}
				w.service.set(works)
				w.run(w.agent.interval() + 2*time.Second)
				if w.agent.Stats().Offline {
					w.Error("one interval after the service is back, the agent has not noticed")
				}
			})
		})
	}
}

func (w *world) stopAndCompare() {
	w.Helper()
	w.run(interval / 2)
	bytesIn, _, gaps := w.service.received()
	if want := w.servers["s1"].truth() + w.servers["s2"].truth(); bytesIn != want || gaps != 0 {
		w.Errorf("service counted %d bytes with %d packets in gaps, servers %d", bytesIn, gaps, want)
	}
}

func TestBacklogDrainsFastAndLivePacketsGoFirst(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(time.Minute)
		w.service.set(breaks)
		w.run(2 * time.Hour)
		w.service.set(works)
		for w.agent.Stats().Offline {
			w.run(time.Second)
		}
		w.service.mu.Lock()
		before := len(w.service.packets)
		w.service.mu.Unlock()
		w.run(2 * time.Minute)
		w.service.mu.Lock()
		after := append([]*fleet.Packet{}, w.service.packets[before:]...)
		w.service.mu.Unlock()
		newest := uint64(0)
		for _, p := range after {
			newest = max(newest, p.ID.Seq)
		}
		if last := w.agent.Stats().LastSeq; newest < last-1 {
			w.Errorf("newest packet at the service is %d, the agent is at %d", newest, last)
		}
		if len(after) < 120 { // ten times real time is 10 per interval
			w.Errorf("%d packets in 2 minutes", len(after))
		}
		w.run(12 * time.Minute)
		if st := w.agent.Stats(); st.Backlog > 1 {
			w.Errorf("backlog after 14 minutes: %+v", st)
		}
		w.service.mu.Lock()
		most := w.service.most
		w.service.mu.Unlock()
		if most > 2 {
			w.Errorf("%d requests at once", most)
		}
		w.accountedFor()
		w.stopAndCompare()
	})
}

// A small spool and a long outage: samples are merged, and the sums are still exact.
func TestFullSpoolMergesWithExactSums(t *testing.T) {
	bubble(t, func(w *world) {
		w.cfg.SpoolMaxBytes = 1 << 20
		w.start()
		w.run(time.Minute)
		w.service.set(busy)
		w.run(10 * time.Hour)
		st := w.agent.Stats()
		w.Logf("after 10 hours: %d records, merged %d, gaps %d, live bytes %d", st.Backlog, st.Merged, st.Dropped, st.Spool.LiveBytes)
		w.service.set(works)
		w.run(3 * time.Hour)
		st = w.agent.Stats()
		if st.Merged == 0 {
			w.Error("nothing was merged: the test proves nothing")
		}
		if st.Backlog > 1 || st.Dropped != 0 {
			w.Errorf("stats %+v", st)
		}
		w.accountedFor()
		w.stopAndCompare()
	})
}

func TestRejectedPacketGoesToTheDeadLettersAndIsReportedAsAGap(t *testing.T) {
	bubble(t, func(w *world) {
		w.service.reject = func(p *fleet.Packet) bool { return p.ID.Seq == 5 }
		w.start()
		w.run(10 * time.Minute)
		st := w.agent.Stats()
		if st.Rejected != 1 || st.Offline {
			w.Errorf("stats %+v", st)
		}
		if !w.condition(codeRejected) {
			w.Error("no condition")
		}
		if _, _, gaps := w.service.received(); gaps != 1 {
			w.Errorf("%d packets in reported gaps, want 1", gaps)
		}
		w.accountedFor()
	})
}

// A proxy that refuses one large packet must not stop the others, nor lose it.
func TestStrangersRefusalParksThePacket(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(time.Minute)
		w.service.mu.Lock()
		n := 0
		w.service.modes = func() fault {
			if n++; n == 1 {
				return proxyLimit
			}
			return works
		}
		w.service.mu.Unlock()
		w.run(5 * time.Minute)
		if st := w.agent.Stats(); st.Backlog != 1 || st.Offline {
			w.Errorf("stats %+v, want one packet aside and the others through", st)
		}
		w.run(10 * time.Minute)
		w.accountedFor()
		w.stopAndCompare()
	})
}

func TestCloneGoesOnUnderANewEpoch(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(5 * time.Minute)
		epoch := w.agent.Stats().Epoch
		w.service.mu.Lock()
		w.service.owners[epoch] = 4711 // somebody else
		_, before := len(w.service.packets), w.agent.Stats().PacketsAcknowledged
		w.service.mu.Unlock()
		w.run(10 * time.Minute)
		st := w.agent.Stats()
		if st.Epoch == epoch || st.NewEpochs != 1 || st.Offline || st.PacketsAcknowledged < before+50 {
			w.Errorf("stats %+v", st)
		}
		if !w.condition(codeClone) {
			w.Error("no condition")
		}
		w.accountedFor()
		w.stopAndCompare()
	})
}

// A restored copy of the spool is found by what the service has already.
func TestRestoredSpoolGoesOnUnderANewEpoch(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(2 * time.Minute)
		w.stop()
		old := w.fs.Clone(7)
		w.start()
		w.run(10 * time.Minute)
		epoch := w.agent.Stats().Epoch
		w.stop()
		w.fs = old
		before, _, _ := w.service.received()
		truth := w.servers["s1"].truth() + w.servers["s2"].truth()
		w.service.mu.Lock()
		w.service.bodies = map[string][]byte{} // one number with two contents is the point here
		w.service.mu.Unlock()
		w.start()
		w.run(10 * time.Minute)
		st := w.agent.Stats()
		if st.Epoch == epoch || st.NewEpochs != 1 {
			w.Errorf("stats %+v", st)
		}
		w.accountedFor()
		after, _, _ := w.service.received()
		// Every run loses what the servers counted while no agent ran, and its first poll.
		if counted, happened := after-before, w.servers["s1"].truth()+w.servers["s2"].truth()-truth; counted > happened || counted < happened-4<<20 {
			w.Errorf("counted %d of %d bytes", counted, happened)
		}
	})
}

func TestSettingsOfTheServiceAreApplied(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.service.mu.Lock()
		w.service.settings.IntervalMs = 2_000
		w.service.mu.Unlock()
		w.run(time.Minute)
		_, before, _ := w.service.received()
		w.run(time.Minute)
		if _, after, _ := w.service.received(); after-before < 29 || after-before > 31 {
			w.Errorf("%d packets in a minute at 2 s", after-before)
		}
		w.service.mu.Lock()
		w.service.settings.IntervalMs = 1 // out of bounds
		w.service.mu.Unlock()
		w.run(time.Minute)
		if got := w.agent.Stats().Interval; got != time.Second {
			w.Errorf("interval %s", got)
		}
		w.service.mu.Lock()
		w.service.settings.IntervalMs = 0
		w.service.mu.Unlock()
		w.run(time.Minute)
		if got := w.agent.Stats().Interval; got != interval {
			w.Errorf("interval %s, want the agent's own", got)
		}
	})
}

func TestHangingServerDelaysNobody(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(time.Minute)
		w.servers["s1"].set(func(s *fakeServer) { s.hang = true })
		w.run(10 * time.Minute)
		w.service.mu.Lock()
		packets := w.service.packets
		w.service.mu.Unlock()
		last := packets[len(packets)-1]
		if len(packets) < 60 || len(last.Snapshots) != 1 || last.Snapshots[0].Server.Key != "s2" {
			w.Errorf("%d packets, last %+v", len(packets), last)
		}
		w.servers["s1"].set(func(s *fakeServer) {
			if s.most > 1 {
				w.Errorf("%d polls of one server at once", s.most)
			}
		})
	})
}

func TestFailedPollsAreGapsAndNotZeros(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(5 * time.Minute)
		w.servers["s1"].set(func(s *fakeServer) { s.fail = fleet.StatusUnreachable })
		w.run(5 * time.Minute)
		if !w.condition(codeServer + "s1") {
			w.Error("no condition")
		}
		w.service.mu.Lock()
		last := w.service.packets[len(w.service.packets)-1]
		w.service.mu.Unlock()
		s := last.Snapshots[0]
		if s.Status != fleet.StatusUnreachable || s.Totals.BytesIn.Known() || s.Server.ViewersNow.Known() || s.CoveredMs != 0 {
			w.Errorf("snapshot %+v", s)
		}
		if s.Detail != "get http://***@s1/stat?*** refused" && s.Detail != "get http://***@s1/stat?***" {
			w.Errorf("detail %q", s.Detail)
		}
		w.servers["s1"].set(func(s *fakeServer) { s.fail = fleet.StatusUnknown })
		w.run(time.Minute)
		if w.condition(codeServer + "s1") {
			w.Error("the condition stays")
		}
		w.stopAndCompare()
	})
}

// The disk fails for a while: packets wait in memory, merged, and nothing is lost.
func TestDiskTroubleLosesNothingWhileTheAgentLives(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(2 * time.Minute)
		w.fs.Inject(durabletest.Fault{Ops: durabletest.OpWrite, N: 1, Mode: durabletest.NotDone, Times: -1})
		w.run(5 * time.Minute)
		if w.agent.Stats().AppendError == 0 || !w.condition(codeSpoolFails) {
			w.Errorf("stats %+v", w.agent.Stats())
		}
		w.fs.Heal()
		w.run(5 * time.Minute)
		if w.condition(codeSpoolFails) {
			w.Error("the condition stays")
		}
		w.accountedFor()
		w.stopAndCompare()
	})
}

func TestStopLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	for _, mode := range []fault{works, hangs} {
		t.Run(string(mode), func(t *testing.T) {
			bubble(t, func(w *world) {
				w.service.set(mode)
				w.start()
				w.run(time.Minute)
				began := time.Now()
				w.stop()
				if took := time.Since(began); took > stopGrace+time.Second {
					w.Errorf("stopping took %s", took)
				}
				w.service.set(works)
				w.start()
				w.run(time.Minute)
				w.accountedFor()
			})
		})
	}
}

// Two agents in one process on one spool: the second one says so.
func TestSpoolInUse(t *testing.T) {
	bubble(t, func(w *world) {
		w.start()
		w.run(time.Second)
		err := w.build(w.fs).Run(w.Context())
		if fleet.KindOf(err) != fleet.KindConflict {
			w.Errorf("Run: %v", err)
		}
	})
}

func TestManyAgentsInOneProcess(t *testing.T) {
	bubble(t, func(w *world) {
		for i := range 20 {
			w.cfg.Name, w.cfg.SpoolDir = fmt.Sprintf("edge-%d", i), fmt.Sprintf("/spool-%d", i)
			a := w.build(w.fs)
			go func() {
				if err := a.Run(w.Context()); err != nil {
					w.Errorf("Run: %v", err)
				}
			}()
		}
		w.run(2 * time.Minute)
		w.service.mu.Lock()
		defer w.service.mu.Unlock()
		agents := map[string]bool{}
		for _, p := range w.service.packets {
			agents[p.ID.Agent] = true
		}
		if len(agents) != 20 || len(w.service.ledger) != 20 {
			w.Errorf("%d agents, %d epochs", len(agents), len(w.service.ledger))
		}
	})
}

// More than fits into one packet: the details go, the totals stay, and it is said.
func TestTooManyStreamsKeepTheirTotals(t *testing.T) {
	bubble(t, func(w *world) {
		w.cfg.SpoolMaxBytes = 1 << 20 // a packet may have a sixteenth of that
		w.servers["s1"].set(func(s *fakeServer) { s.streams = 20_000 })
		w.start()
		w.run(2 * time.Minute)
		w.accountedFor()
		w.stopAndCompare()
		if st := w.agent.Stats(); st.Lost != 0 || st.AppendError != 0 {
			w.Errorf("stats %+v", st)
		}
		w.service.mu.Lock()
		defer w.service.mu.Unlock()
		s := w.service.packets[3].Snapshots[0]
		if len(s.Streams) != 0 || s.Status != fleet.StatusPartial || s.Detail == "" || !s.Totals.BytesIn.Known() {
			w.Errorf("snapshot with %d streams: %v, %q, %v", len(s.Streams), s.Status, s.Detail, s.Totals)
		}
	})
}
