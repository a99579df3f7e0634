package mediatest

import (
	"bytes"
	"compress/gzip"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"vigil/fleetsim"
)

// reply is an answer before it is sent.
type reply struct {
	status int
	kind   string // Content-Type
	body   []byte
	faults Fault
	poll   int64 // number of the record
}

// ServeHTTP answers as the emulated server would at this moment.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reply, up := e.answer(r)
	if !up || reply.faults.has(FaultReset) {
		reset(w)
	}
	if reply.faults.has(FaultStall) && !e.stall(r) {
		e.settle(reply.poll, 0)
		reset(w)
	}
	if !e.send(w, r, &reply) {
		e.settle(reply.poll, reply.status)
		panic(http.ErrAbortHandler) // net/http closes the connection without ending the body
	}
}

// answer makes the reply; up is false while the server is down.
func (e *Emulator) answer(r *http.Request) (out reply, up bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.opts.Now()
	out = reply{status: http.StatusOK, kind: "text/xml", faults: e.takeFaults()}
	poll := Poll{At: now, Path: r.URL.Path, Fault: out.faults}
	// Recorded before it is sent: whoever has read an answer finds it in the record, and
	// records are in the order in which the numbers were taken.
	defer func() { out.poll = e.remember(poll, out.status, up) }()
	if !e.truth.Boot(now.UnixMilli()).Up {
		return out, false
	}
	defer func() { e.asked++ }()
	if status := e.refuse(r, out.faults); status != http.StatusOK {
		out.status, out.kind = status, "text/html"
		out.body = []byte("<html>\r\n<head><title>" + strconv.Itoa(status) + " " + http.StatusText(status) + "</title></head>\r\n</html>\r\n")
		return out, true
	}
	picture := e.look(now.UnixMilli())
	if e.opts.Truth.Product() == fleetsim.ProductIcecast {
		e.answerIcecast(&out, &poll, &picture, r)
	} else {
		out.body = renderNginx(make([]byte, 0, e.pageBytes), &picture, e.truth.Apps(), out.faults)
		note(&poll, &picture, e.opts.Record)
		poll.BytesIn, poll.BytesOut = picture.in, picture.out // Icecast has none
	}
	e.pageBytes = max(e.pageBytes, len(out.body)+len(out.body)/16)
	if out.faults.has(FaultRestartMid) {
		e.restart(now.UnixMilli())
	}
	return out, true
}

func (e *Emulator) takeFaults() Fault {
	faults := e.faults
	if e.nextN > 0 {
		e.nextN--
		faults |= e.next
	}
	return faults
}

// refuse decides the status before any page is made.
func (e *Emulator) refuse(r *http.Request, faults Fault) int {
	switch {
	case faults.has(FaultUnauthorized):
		return http.StatusUnauthorized
	case faults.has(FaultForbidden):
		return http.StatusForbidden
	case faults.has(FaultNotFound):
		return http.StatusNotFound
	case faults.has(FaultInternal):
		return http.StatusInternalServerError
	}
	protected := e.opts.Username != ""
	if e.truth.Product() == fleetsim.ProductIcecast {
		protected = strings.HasPrefix(r.URL.Path, "/admin/")
	} else if r.URL.Path != "/stat" {
		return http.StatusNotFound
	}
	if user, password, _ := r.BasicAuth(); protected && (user != e.opts.Username || password != e.opts.Password) {
		return http.StatusUnauthorized
	}
	return http.StatusOK
}

func (e *Emulator) answerIcecast(out *reply, poll *Poll, p *picture, r *http.Request) {
	out.kind = "text/xml; charset=utf-8"
	switch r.URL.Path {
	case "/admin/stats", "/admin/stats.xml":
		if mount := r.URL.Query().Get("mount"); mount != "" {
			p.only(mount)
		}
		out.body = renderStats(make([]byte, 0, e.pageBytes), p, r.Host, e.asked, out.faults)
		note(poll, p, e.opts.Record)
	case "/status-json.xsl":
		out.kind = "application/json; charset=UTF-8"
		out.body = renderJSON(nil, p, r.Host, out.faults)
		note(poll, p, e.opts.Record)
	case "/admin/listmounts":
		out.body = renderMounts(nil, p)
	case "/admin/listclients":
		body, ok := renderClients(nil, p, r.URL.Query().Get("mount"))
		if !ok {
			out.status, out.kind = http.StatusBadRequest, "text/html; charset=utf-8"
			body = []byte("<html><head><title>Error 400</title></head><body><b>400 - Source does not exist</b></body></html>\r\n")
		}
		out.body = body
	default:
		out.status, out.kind = http.StatusNotFound, "text/html; charset=utf-8"
		out.body = []byte("<html><head><title>Error 404</title></head><body><b>404 - The file you requested could not be found</b></body></html>\r\n")
	}
}

// only leaves one mount in the picture; the server's own numbers stay.
func (p *picture) only(mount string) {
	for i := range p.streams {
		if p.streams[i].st.Name() == mount {
			p.streams = p.streams[i : i+1]
			return
		}
	}
	p.streams = nil
}

// note records what a page says.
func note(poll *Poll, p *picture, record Record) {
	poll.PID, poll.StartMs = p.pid, max(p.startMs, 1)
	poll.Accepted, poll.Viewers = p.accepted, p.viewers
	for i := range p.streams {
		v := &p.streams[i]
		if v.publishing {
			poll.Streams++
		}
		if record != RecordStreams {
			continue
		}
		shown := v.st.Name()
		if v.st.App() != "" {
			shown = nginxShown(shown)
		}
		poll.PerStream = append(poll.PerStream, StreamPoll{
			App: v.st.App(), Name: v.st.Name(), Shown: shown, SinceMs: v.sinceMs,
			BytesIn: v.in, BytesOut: v.out, Viewers: len(v.sessions), Publishing: v.publishing,
		})
	}
}

// stall says nothing for a while; false means that the client or Close ended it.
func (e *Emulator) stall(r *http.Request) bool {
	timer := time.NewTimer(e.opts.StallFor)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-e.closing:
	}
	return false
}

// reset ends the connection with a TCP reset and does not return.
func reset(w http.ResponseWriter) {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // best effort: without it the peer sees an end instead of a reset
			}
			_ = conn.Close()
		}
	}
	panic(http.ErrAbortHandler)
}

// send writes the reply; false means that it was not sent to its end.
func (e *Emulator) send(w http.ResponseWriter, r *http.Request, reply *reply) bool {
	header := w.Header()
	e.setHeaders(header, reply)
	body, faults := reply.body, reply.faults
	switch {
	case faults.has(FaultEmpty):
		body = nil
	case faults.has(FaultTruncated):
		body = body[:len(body)/2]
	}
	if faults.has(FaultGzipAlways) || faults.has(FaultGzip) && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		header.Set("Content-Encoding", "gzip")
		body = gzipped(body)
	}
	if faults.has(FaultHuge) {
		w.WriteHeader(reply.status)
		return e.sendHuge(w, r, body)
	}
	if !faults.has(FaultChunked) {
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(reply.status)
	half := len(body) / 2
	if _, err := w.Write(body[:half]); err != nil {
		return false
	}
	if faults.has(FaultChunked | FaultStallBody | FaultCut | FaultRestartMid) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			return false
		}
	}
	if faults.has(FaultCut | FaultRestartMid) {
		return false
	}
	if faults.has(FaultStallBody) && !e.stall(r) {
		return false
	}
	_, err := w.Write(body[half:])
	return err == nil
}

func (e *Emulator) setHeaders(header http.Header, reply *reply) {
	e.mu.Lock()
	skew := e.skew
	e.mu.Unlock()
	header.Set("Date", e.opts.Now().Add(skew).UTC().Format(http.TimeFormat))
	header.Set("Content-Type", reply.kind)
	if e.truth.Product() != fleetsim.ProductIcecast {
		header.Set("Server", "nginx/1.22.1")
		if reply.status == http.StatusUnauthorized {
			header.Set("WWW-Authenticate", `Basic realm="stat"`)
		}
		return
	}
	header.Set("Server", "Icecast 2.4.4")
	header.Set("Connection", "close")
	header.Set("Cache-Control", "no-cache, no-store")
	header.Set("Expires", "Mon, 26 Jul 1997 05:00:00 GMT")
	header.Set("Pragma", "no-cache")
	if reply.status == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", `Basic realm="Icecast2 Server"`)
	}
}

func gzipped(body []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(body) // a bytes.Buffer never fails
	_ = z.Close()
	return out.Bytes()
}

// sendHuge repeats the page's middle until HugeBytes are sent.
func (e *Emulator) sendHuge(w http.ResponseWriter, r *http.Request, body []byte) bool {
	head := body[:len(body)/2]
	filler := bytes.Repeat([]byte("<stream><name>filler</name></stream>\r\n"), 1000)
	if _, err := w.Write(head); err != nil {
		return false
	}
	for sent := len(head); sent < HugeBytes; sent += len(filler) {
		if r.Context().Err() != nil {
			return false
		}
		if _, err := w.Write(filler); err != nil {
			return false
		}
	}
	return true
}
