package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"vigil/fleet"
	"vigil/wire"
)

const (
	swarmPrefix  = "swarm-" // of names; nobody polls a media server for these
	swarmPause   = 5 * time.Millisecond
	swarmRetry   = 50 * time.Millisecond
	swarmTimeout = 10 * time.Second
)

// Swarm is a crowd of senders inside this process that send small packets one after the
// other as fast as they are acknowledged, so that many are under way whenever a fault
// strikes. They keep the one rule of an agent: the same packet until it is acknowledged.
type Swarm struct {
	url, token string
	client     *http.Client
	codec      *wire.Codec
	end        chan struct{}
	abort      context.CancelFunc
	senders    sync.WaitGroup

	mu   sync.Mutex
	errs []error
}

// NewSwarm starts n senders.
func (s *Stage) NewSwarm(ctx context.Context, l *Lab, n int, seed uint64) (*Swarm, error) {
	token, err := os.ReadFile(s.Service.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("start swarm: %w", err)
	}
	codec, err := wire.NewCodec(wire.DefaultLimits())
	if err != nil {
		return nil, err
	}
	ctx, abort := context.WithCancel(context.WithoutCancel(ctx))
	w := &Swarm{
		url: s.Recorder.URL + wire.PacketPath, token: strings.TrimSpace(string(token)), codec: codec,
		client: &http.Client{Timeout: swarmTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: n}},
		end:    make(chan struct{}), abort: abort,
	}
	for i := range n {
		w.senders.Go(func() { w.send(ctx, i, rand.New(rand.NewPCG(seed, uint64(100+i)))) })
	}
	l.closeLater(func() error {
		abort()
		w.senders.Wait()
		return nil
	})
	return w, nil
}

// Stop ends the senders when the packets that are under way are acknowledged.
func (w *Swarm) Stop(ctx context.Context) error {
	close(w.end)
	timer := time.AfterFunc(drainTimeout, w.abort)
	defer timer.Stop()
	stop := context.AfterFunc(ctx, w.abort)
	defer stop()
	w.senders.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.errs) > 0 {
		return fmt.Errorf("%d senders gave up: %w", len(w.errs), w.errs[0])
	}
	return nil
}

func (w *Swarm) gaveUp(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, err)
}

func (w *Swarm) send(ctx context.Context, i int, random *rand.Rand) {
	name := fmt.Sprintf("%s%d", swarmPrefix, i)
	epoch, boot := random.Uint64()|1, random.Uint64()|1
	for seq := uint64(1); ; seq++ {
		packet := &fleet.Packet{
			ID: fleet.PacketID{Agent: name, Epoch: epoch, Seq: seq}, FirstSeq: seq, Boot: boot, AgentVersion: "swarm", Host: name,
			Snapshots: []fleet.Snapshot{{
				Server: fleet.ServerInfo{Key: name, Product: "nginx-rtmp"}, Status: fleet.StatusOK, AtMs: time.Now().UnixMilli(),
				IntervalMs: 1, CoveredMs: 1, Totals: fleet.Totals{BytesIn: fleet.Of(random.Int64N(1e6)), BytesOut: fleet.Of(random.Int64N(1e9))},
			}},
		}
		payload, err := w.codec.Encode(packet)
		if err != nil {
			w.gaveUp(err)
			return
		}
		for last := error(nil); !w.sendOnce(ctx, packet, payload, &last); {
			if err := rest(ctx, swarmRetry); err != nil {
				w.gaveUp(fmt.Errorf("packet %s: %w", packet.ID, last))
				return
			}
		}
		select {
		case <-w.end:
			return
		case <-time.After(swarmPause):
		}
	}
}

// sendOnce reports whether the packet was acknowledged.
func (w *Swarm) sendOnce(ctx context.Context, p *fleet.Packet, payload []byte, last *error) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(payload))
	if err != nil {
		*last = err
		return false
	}
	req.Header.Set("Content-Type", wire.ContentTypePacket)
	req.Header.Set("Authorization", "Bearer "+w.token)
	req.Header.Set(wire.HeaderIdempotencyKey, p.ID.String())
	req.Header.Set(wire.HeaderBoot, fmt.Sprintf("%016x", p.Boot))
	req.Header.Set(wire.HeaderHost, p.Host)
	resp, err := w.client.Do(req)
	if err != nil {
		*last = err
		return false
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPacketBytes))
	if err != nil || resp.StatusCode != http.StatusOK {
		*last = fmt.Errorf("%s: %s", resp.Status, body)
		return false
	}
	return true
}
