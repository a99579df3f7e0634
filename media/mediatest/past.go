package mediatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"vigil/config"
	"vigil/fleet"
	"vigil/fleetsim"
	"vigil/media"
	"vigil/wire"
)

// Limits of sending a past.
const (
	pastPollTimeout = 20 * time.Second
	pastSendTimeout = 30 * time.Second
	maxReceiptBytes = 1 << 20
)

// Past is what an agent beside a simulated server would have recorded in a time that is
// over: the same collector, the same tracker and the same packets, polled by a clock of
// its own. A service that takes it cannot tell it from a spool that was away for long.
type Past struct {
	Agent  string
	Truth  *fleetsim.Server
	Every  time.Duration
	Spells []Spell // when the agent ran; between them it did not

	seq uint64
}

// Spell is a stretch of time.
type Spell struct{ From, To time.Time }

// Send polls and sends everything, oldest first, and returns how many packets the
// service acknowledged.
func (p *Past) Send(ctx context.Context, service, token string) (packets int, err error) {
	var at atomic.Int64 // Unix ms
	emulator := New(Options{Truth: p.Truth, Now: func() time.Time { return time.UnixMilli(at.Load()) }, Record: RecordNothing})
	if err := emulator.Start(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, emulator.Close()) }()
	cfg, err := p.configure(emulator)
	if err != nil {
		return 0, err
	}
	if cfg.PasswordFile != "" {
		defer func() { err = errors.Join(err, os.Remove(cfg.PasswordFile)) }()
	}
	for i, spell := range p.Spells {
		collector, err := media.New(cfg, media.Deps{Now: func() time.Time { return time.UnixMilli(at.Load()) }, Mono: at.Load})
		if err != nil {
			return packets, err
		}
		tracker := media.NewTracker(media.TrackerOptions{})
		for t := spell.From; !t.After(spell.To); t = t.Add(p.Every) {
			at.Store(t.UnixMilli())
			snapshot := tracker.Step(collector.Collect(ctx))
			if !snapshot.Status.HasNumbers() {
				return packets, fmt.Errorf("poll %s at %v: %v: %s", p.Agent, t, snapshot.Status, snapshot.Detail)
			}
			if err := p.post(ctx, service, token, uint64(i+1), snapshot); err != nil {
				return packets, err
			}
			packets++
		}
	}
	return packets, nil
}

func (p *Past) configure(e *Emulator) (config.MediaServer, error) {
	cfg := config.MediaServer{
		Name: p.Truth.Key(), Product: e.Product(), URL: e.URL(), Timeout: pastPollTimeout, ClientListEvery: time.Minute,
	}
	user, password := e.Credentials()
	if user == "" {
		return cfg, nil
	}
	file, err := os.CreateTemp("", "mediatest-")
	if err != nil {
		return cfg, err
	}
	cfg.Username, cfg.PasswordFile = user, file.Name()
	_, err = file.WriteString(password + "\n")
	return cfg, errors.Join(err, file.Close())
}

// post sends one snapshot as a packet of its own. The epoch is the name's and the
// stretches' alone, so that sending the same past twice counts once.
func (p *Past) post(ctx context.Context, service, token string, boot uint64, s fleet.Snapshot) error {
	p.seq++
	packet := &fleet.Packet{
		ID: fleet.PacketID{Agent: p.Agent, Epoch: uint64(p.Spells[0].From.UnixMilli()), Seq: p.seq}, FirstSeq: p.seq,
		Boot: boot, AgentVersion: "past", Host: p.Agent, Snapshots: []fleet.Snapshot{s},
	}
	payload, err := wire.Encode(packet)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, pastSendTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, service+wire.PacketPath, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", wire.ContentTypePacket)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set(wire.HeaderIdempotencyKey, packet.ID.String())
	req.Header.Set(wire.HeaderBoot, fmt.Sprintf("%016x", packet.Boot))
	req.Header.Set(wire.HeaderHost, packet.Host)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("send packet %s: %w", packet.ID, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxReceiptBytes))
	if err != nil || resp.StatusCode != http.StatusOK {
		return errors.Join(err, fmt.Errorf("send packet %s: %s: %s", packet.ID, resp.Status, said))
	}
	return nil
}
