package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"vigil/fleet"
	"vigil/wire"
)

// Limits of a recorder.
const (
	maxPacketBytes = 16 << 20
	forwardTimeout = 40 * time.Second
	headerTimeout  = 10 * time.Second
)

// Fault is what a Recorder does to one packet on its way.
type Fault int

// The faults.
const (
	Pass       Fault = iota // nothing
	Cut                     // the connection ends before the service sees the packet
	LoseAnswer              // the service takes the packet, the connection ends instead of its answer
	Double                  // the service is sent the packet twice; the agent gets the second answer
)

// Recorder is a proxy between agents and a service, outside of what is being broken. It
// writes down every packet that was sent and every one that was acknowledged, and can
// lose, double or hide what passes. Methods are safe for concurrent use.
type Recorder struct {
	URL string // where agents send to

	to     string
	codec  *wire.Codec
	client *http.Client
	server *http.Server

	mu      sync.Mutex // guards what follows
	fault   func(fleet.PacketID) Fault
	entries map[fleet.PacketID]*Entry
	faults  []error
}

// Entry is what the recorder knows of one packet.
type Entry struct {
	ID      fleet.PacketID
	Packet  *fleet.Packet // as first sent
	Sent    int           // how often an agent sent it
	Passed  int           // how often the service was sent it
	Acked   int           // how often the service acknowledged it
	AckedMs int64         // UTC ms of the first time; 0 when never
	bytes   []byte
}

// NewRecorder starts a recorder in front of a service's ingest. It ends with the lab.
func (l *Lab) NewRecorder(ctx context.Context, ingest string) (*Recorder, error) {
	codec, err := wire.NewCodec(wire.DefaultLimits())
	if err != nil {
		return nil, err
	}
	at, err := address()
	if err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return nil, fmt.Errorf("start recorder: %w", err)
	}
	r := &Recorder{
		URL: "http://" + at, to: ingest, codec: codec, entries: map[fleet.PacketID]*Entry{},
		// A connection for each packet: a kept one would hide that the service is gone for a
		// moment, and would not be what agents do.
		client: &http.Client{Timeout: forwardTimeout, Transport: &http.Transport{DisableKeepAlives: true}},
	}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: headerTimeout}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			r.wrong(fmt.Errorf("serve: %w", err))
		}
	}()
	l.closeLater(func() error {
		err := r.server.Close()
		<-ended
		return err
	})
	return r, nil
}

// SetFault decides from now on what happens to each packet. Nil passes everything.
func (r *Recorder) SetFault(fault func(fleet.PacketID) Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = fault
}

// Entries returns a copy of all that was written down.
func (r *Recorder) Entries() []Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Entry, 0, len(r.entries))
	for _, e := range r.entries {
		all = append(all, *e)
	}
	return all
}

// Err returns what should never happen: two different packets with one identity, a
// packet that cannot be read or is not what its key says.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.faults...)
}

func (r *Recorder) wrong(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults = append(r.faults, err)
}

// ServeHTTP passes a request on.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, maxPacketBytes))
	if err != nil {
		return // the agent went away in the middle of it
	}
	isPacket := req.URL.Path == wire.PacketPath && req.Method == http.MethodPost
	var id fleet.PacketID
	fault := Pass
	if isPacket {
		if id, err = r.sent(req.Header.Get(wire.HeaderIdempotencyKey), body); err != nil {
			r.wrong(err)
		}
		r.mu.Lock()
		if r.fault != nil {
			fault = r.fault(id)
		}
		r.mu.Unlock()
	}
	if fault == Cut {
		panic(http.ErrAbortHandler) // net/http cuts the connection
	}
	times := 1
	if fault == Double {
		times = 2
	}
	var answer *http.Response
	var text []byte
	for range times {
		if answer, text, err = r.pass(req, body); err != nil {
			// Nobody took it: to the agent this must look like a service that is gone, not like
			// one that answers.
			panic(http.ErrAbortHandler)
		}
		if isPacket {
			r.answered(id, answer)
		}
	}
	if fault == LoseAnswer {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(text) // an agent that went away sends the packet again
}

// sent writes down that an agent sent a packet.
func (r *Recorder) sent(key string, body []byte) (fleet.PacketID, error) {
	id, err := ParseID(key)
	if err != nil {
		return id, err
	}
	packet, err := r.codec.Decode(body)
	if err != nil {
		return id, fmt.Errorf("packet %s: %w", key, err)
	}
	if packet.ID != id {
		return id, fmt.Errorf("packet %s says that it is %s", key, packet.ID)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	if e == nil {
		e = &Entry{ID: id, Packet: packet, bytes: body}
		r.entries[id] = e
	}
	e.Sent++
	if !bytes.Equal(e.bytes, body) {
		return id, fmt.Errorf("packet %s was sent with two different contents", key)
	}
	return id, nil
}

func (r *Recorder) pass(req *http.Request, body []byte) (*http.Response, []byte, error) {
	// Not the context of the request: what reached the service is waited for even when the
	// agent has given up, or the book would not say that it was acknowledged.
	out, err := http.NewRequestWithContext(context.WithoutCancel(req.Context()), req.Method, r.to+req.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	out.Header = req.Header.Clone()
	resp, err := r.client.Do(out)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxPacketBytes))
	return resp, text, err
}

func (r *Recorder) answered(id fleet.PacketID, answer *http.Response) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[id]
	if e == nil {
		return
	}
	e.Passed++
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Content-Type") != wire.ContentTypeReceipt {
		return
	}
	e.Acked++
	if e.AckedMs == 0 {
		e.AckedMs = time.Now().UnixMilli()
	}
}

// ParseID reads what fleet.PacketID.String writes.
func ParseID(key string) (id fleet.PacketID, err error) {
	parts := strings.Split(key, "/")
	if len(parts) != 3 {
		return id, fmt.Errorf("packet key %q has not three parts", key)
	}
	id.Agent = parts[0]
	if id.Epoch, err = strconv.ParseUint(parts[1], 16, 64); err != nil {
		return id, fmt.Errorf("packet key %q: %w", key, err)
	}
	if id.Seq, err = strconv.ParseUint(parts[2], 10, 64); err != nil {
		return id, fmt.Errorf("packet key %q: %w", key, err)
	}
	return id, nil
}
