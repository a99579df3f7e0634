package ingest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"vigil/auth"
	"vigil/fleet"
	"vigil/journal"
	"vigil/wire"
)

// Handler serves POST /v1/packets and GET /v1/ping.
func (i *Ingest) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer i.recover(w, r)
		switch r.URL.Path {
		case wire.PacketPath:
			i.servePacket(w, r)
		case wire.PingPath:
			i.servePing(w, r)
		default:
			writeError(w, &fleet.Error{Kind: fleet.KindMissing, Message: "there is no such page", Hint: "packets go to " + wire.PacketPath})
		}
	})
}

// recover keeps one bad request from ending the process.
func (i *Ingest) recover(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	i.metrics.panics.Inc()
	i.log.Error("panic in a request", "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	writeError(w, &fleet.Error{Kind: fleet.KindInternal, Message: "the service made a mistake with this request", Hint: "send it again later"})
}

// refusal is an error with the fixed category that metrics count.
type refusal struct {
	reason string
	err    error
}

func (r *refusal) Error() string { return r.reason + ": " + r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

func refuse(reason string, kind fleet.Kind, message, hint string) error {
	return &refusal{reason, &fleet.Error{Kind: kind, Message: message, Hint: hint}}
}

func (i *Ingest) servePacket(w http.ResponseWriter, r *http.Request) {
	began := i.now()
	receipt, err := i.packet(w, r)
	if err == nil {
		i.packets.Add(1)
		i.metrics.packets.With("ok").Inc()
		body := wire.EncodeReceipt(receipt)
		w.Header().Set("Content-Type", wire.ContentTypeReceipt)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // an agent that misses the answer sends the packet again
		i.metrics.ackSeconds.Observe(i.now().Sub(began).Seconds())
		return
	}
	i.refused.Add(1)
	reason := "internal"
	if known, ok := errors.AsType[*refusal](err); ok {
		reason = known.reason
	}
	i.metrics.packets.With(reason).Inc()
	i.log.Debug("packet refused", "packet", cut(r.Header.Get(wire.HeaderIdempotencyKey), maxKeyBytes), "reason", reason, "error", err)
	writeError(w, err)
}

// packet does all that a packet needs, cheap checks first, and returns nil only after
// it is durable.
func (i *Ingest) packet(w http.ResponseWriter, r *http.Request) (*fleet.Receipt, error) {
	h, err := i.checkHeader(r)
	if err != nil {
		return nil, err
	}
	leave, err := i.room.share(h.token)
	if err != nil {
		return nil, err
	}
	defer leave()
	release, err := i.room.enter(h.reserve)
	if err != nil {
		return nil, err
	}
	defer release()
	body, err := i.readBody(w, r, h.length)
	if err != nil {
		return nil, err
	}
	i.metrics.bytes.Add(float64(len(body)))
	p, err := i.decodePacket(r.Context(), body)
	if err != nil {
		return nil, err
	}
	if err := checkPacket(p, h); err != nil {
		return nil, err
	}
	receivedMs := i.now().UnixMilli()
	if err := i.checkClaims(p, receivedMs); err != nil {
		return nil, err
	}
	if err := i.clones.check(p.ID, h.boot, h.host, body); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), i.cfg.AckTimeout)
	defer cancel()
	entry := journal.Entry{ID: p.ID, FirstSeq: p.FirstSeq, ReceivedMs: receivedMs, Boot: h.boot, Payload: body}
	if err := i.deps.Journal.Append(ctx, entry); err != nil {
		return nil, &refusal{"journal", err}
	}
	i.log.Debug("packet acknowledged", "packet", p.ID.String(), "bytes", len(body), "token", h.token.ID)
	return i.receipt(p.ID), nil
}

// header is what a request says before its body.
type header struct {
	token   auth.AgentToken
	key     string
	boot    uint64
	host    string
	length  int64 // of the body; -1: not told
	reserve int64 // bytes that the body may take
}

func (i *Ingest) checkHeader(r *http.Request) (header, error) {
	h := header{length: r.ContentLength, reserve: r.ContentLength}
	if r.Method != http.MethodPost {
		return h, refuse("method", fleet.KindInvalid, "packets are sent with POST", "")
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != wire.ContentTypePacket {
		return h, refuse("content_type", fleet.KindInvalid, "the content type is not that of a packet", "use "+wire.ContentTypePacket)
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return h, refuse("content_type", fleet.KindInvalid, "packets have no content encoding: they are compressed by themselves", "leave Content-Encoding out")
	}
	switch {
	case h.length > i.cfg.MaxPacketBytes:
		return h, refuse("too_large", fleet.KindTooLarge, fmt.Sprintf("the packet has %d bytes, at most %d are taken", h.length, i.cfg.MaxPacketBytes), "raise ingest.max_packet_bytes, or watch fewer streams with one agent")
	case h.length == 0:
		return h, refuse("body", fleet.KindInvalid, "the request has no body", "")
	case h.length < 0:
		h.reserve = i.cfg.MaxPacketBytes
	}
	var err error
	if h.token, err = i.authenticate(r); err != nil {
		return h, err
	}
	h.key = r.Header.Get(wire.HeaderIdempotencyKey)
	if h.key == "" || len(h.key) > maxKeyBytes {
		return h, refuse("header", fleet.KindInvalid, "the header "+wire.HeaderIdempotencyKey+" is missing or too long", "it carries agent/epoch/seq")
	}
	if h.boot, err = parseBoot(r.Header.Get(wire.HeaderBoot)); err != nil {
		return h, err
	}
	h.host = printable(r.Header.Get(wire.HeaderHost))
	return h, nil
}

func parseBoot(text string) (uint64, error) {
	boot, err := strconv.ParseUint(text, 16, 64)
	if err != nil || len(text) != 16 {
		return 0, refuse("header", fleet.KindInvalid, "the header "+wire.HeaderBoot+" is missing or not 16 hexadecimal digits", "")
	}
	return boot, nil
}

// authenticate finds the token of a request. It costs one hash and a look into memory.
func (i *Ingest) authenticate(r *http.Request) (auth.AgentToken, error) {
	unknown := func() error {
		return refuse("token", fleet.KindUnauthenticated, "the agent's token is missing or not known here", "make one with: vigil token add")
	}
	text, ok := auth.BearerToken(r)
	if !ok {
		return auth.AgentToken{}, unknown()
	}
	hash, ok := auth.HashAgentToken(text)
	if !ok {
		return auth.AgentToken{}, unknown()
	}
	token, err := i.deps.Tokens.AgentToken(hash)
	switch {
	case errors.Is(err, auth.ErrMissing):
		return auth.AgentToken{}, unknown()
	case err != nil:
		// Not being able to look is not the same as not being known.
		return auth.AgentToken{}, &refusal{"token", &fleet.Error{Kind: fleet.KindUnavailable, Message: "tokens cannot be checked at this moment", Hint: "send it again later", Err: err}}
	case !token.Hash.Equal(hash):
		return auth.AgentToken{}, unknown()
	}
	return token, nil
}

// readBody reads the whole body, at most as much as a packet may have, in bounded time.
func (i *Ingest) readBody(w http.ResponseWriter, r *http.Request, length int64) ([]byte, error) {
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(bodyTimeout)); err == nil {
		defer control.SetReadDeadline(time.Time{})
	}
	var body []byte
	var err error
	if length >= 0 {
		body = make([]byte, length)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, i.cfg.MaxPacketBytes))
	}
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return nil, refuse("too_large", fleet.KindTooLarge, fmt.Sprintf("the packet has more than %d bytes", i.cfg.MaxPacketBytes), "raise ingest.max_packet_bytes, or watch fewer streams with one agent")
	}
	if err != nil {
		// Never "invalid": a body that was cut on its way says nothing about the packet.
		return nil, &refusal{"body", &fleet.Error{Kind: fleet.KindUnavailable, Message: "the packet did not arrive completely or in time", Hint: "send it again", Err: err}}
	}
	return body, nil
}

// decodePacket checks the packet fully. Storage will decode it again: what is in the
// journal must never surprise it.
func (i *Ingest) decodePacket(ctx context.Context, body []byte) (*fleet.Packet, error) {
	select {
	case i.decode <- struct{}{}:
		defer func() { <-i.decode }()
	case <-ctx.Done():
		return nil, &refusal{"busy", busyError("the service has too much to do", ctx.Err())}
	}
	p, err := i.codec.Decode(body)
	if err == nil {
		return p, nil
	}
	if fleet.KindOf(err) == fleet.KindTooLarge {
		return nil, &refusal{"too_large", err}
	}
	if _, ok := errors.AsType[*fleet.Error](err); !ok {
		err = &fleet.Error{Kind: fleet.KindInvalid, Message: "the packet cannot be read", Err: err}
	}
	return nil, &refusal{"invalid", err}
}

// checkPacket compares what the packet says with what its header said.
func checkPacket(p *fleet.Packet, h header) error {
	if h.key != p.ID.String() {
		return refuse("mismatch", fleet.KindInvalid, "the header "+wire.HeaderIdempotencyKey+" does not name this packet", "it must be "+p.ID.String())
	}
	if !h.token.Allows(p.ID.Agent) {
		return refuse("forbidden", fleet.KindForbidden, fmt.Sprintf("the token %s is not for the agent %q", h.token.ID, p.ID.Agent), "give the agent the name that its token is for, or make a token for it: vigil token add")
	}
	for i := range p.Snapshots {
		if key := p.Snapshots[i].Server.Key; !h.token.AllowsServer(key) {
			return refuse("forbidden", fleet.KindForbidden, fmt.Sprintf("the token %s is not for the media server %q", h.token.ID, printable(key)), "give the media server a name that the token is for, or make a token for it: vigil token add -servers")
		}
	}
	return nil
}

// checkClaims refuses, before anything is acknowledged, what storage could not count or
// what would fill its memory.
func (i *Ingest) checkClaims(p *fleet.Packet, receivedMs int64) error {
	if err := i.claims.clock(p, receivedMs); err != nil {
		return err
	}
	if err := checkHoles(p, i.stored(p.ID)); err != nil {
		return err
	}
	return i.claims.check(p)
}

func (i *Ingest) receipt(id fleet.PacketID) *fleet.Receipt {
	r := &fleet.Receipt{Settings: fleet.Settings{IntervalMs: i.cfg.AgentInterval.Milliseconds()}}
	if stored := i.stored(id); stored != nil {
		r.StoredKnown, r.Stored, r.StoredAhead = true, stored.High(), stored.Ahead()
	}
	return r
}

// stored is what storage last told about a sender; nil when it has not told anything.
func (i *Ingest) stored(id fleet.PacketID) *fleet.SeqSet {
	if i.deps.Stored == nil {
		return nil
	}
	if stored, known := i.deps.Stored(id.Agent, id.Epoch); known {
		return stored
	}
	return nil
}

// servePing lets an agent and its operator try address, certificate and token.
func (i *Ingest) servePing(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		writeError(w, &fleet.Error{Kind: fleet.KindInvalid, Message: "ask with GET"})
		return
	}
	token, err := i.authenticate(r)
	if err == nil {
		if agent := r.URL.Query().Get("agent"); agent != "" && !token.Allows(agent) {
			err = refuse("forbidden", fleet.KindForbidden, fmt.Sprintf("the token %s is not for the agent %q", token.ID, printable(agent)), "give the agent the name that its token is for, or make a token for it: vigil token add")
		}
	}
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"ok": true, "token": token.ID, "agents": token.Agent, "time_ms": i.now().UnixMilli()})
}

// writeError answers with the JSON that wire describes.
//
// net/http reads what is left of a small body before it answers, so that the
// connection can be used again: that is cheaper for everybody than a new one. It gets
// little time for it. (EnableFullDuplex would answer first; tried with Go 1.26, the
// connections then break.)
func writeError(w http.ResponseWriter, err error) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(unwantedBodyTimeout))
	shown := &fleet.Error{Kind: fleet.KindInternal, Message: "the service made a mistake", Hint: "send it again later"}
	if known, ok := errors.AsType[*fleet.Error](err); ok {
		shown = known
	}
	if shown.Kind == fleet.KindBusy || shown.Kind == fleet.KindUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfterSeconds(shown.Kind)))
	}
	if shown.Kind == fleet.KindUnauthenticated {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeJSON(w, shown.Kind.HTTPStatus(), map[string]any{"kind": shown.Kind.String(), "message": shown.Message, "hint": shown.Hint})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		body, status = []byte(`{"kind":"internal"}`), http.StatusInternalServerError
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone: nobody to tell
}

// printable makes a header fit for messages and logs.
func printable(text string) string {
	text = cut(text, maxHostBytes)
	if text == "" {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return '?'
		}
		return r
	}, text)
}

func cut(text string, limit int) string { return text[:min(len(text), limit)] }
