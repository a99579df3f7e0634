package mediatest

import "strings"

// Fault is a set of things that go wrong with an answer.
type Fault uint32

// The faults. Those that decide how the answer fails exclude each other; the first in
// this order wins.
const (
	FaultReset        Fault = 1 << iota // the connection is reset without an answer
	FaultStall                          // nothing comes for Options.StallFor, then the answer
	FaultStallBody                      // half of the answer comes, then nothing for Options.StallFor, then the rest
	FaultUnauthorized                   // 401
	FaultForbidden                      // 403
	FaultNotFound                       // 404
	FaultInternal                       // 500
	FaultTruncated                      // the body ends in the middle; its length claims that it was whole
	FaultCut                            // the connection is closed in the middle of the body
	FaultRestartMid                     // as FaultCut, and the server has restarted when it is asked again
	FaultHuge                           // the body goes on for HugeBytes
	FaultBadJSON                        // a title that is a lone dash breaks status-json.xsl (Icecast)
	FaultEarlyJSON                      // status-json.xsl as in the first moments after a start: not JSON (Icecast)
	FaultDuplicate                      // the first two streams have one name
	FaultRenamed                        // byte counters have another name, as after an upgrade
	FaultEmpty                          // 200 with an empty body
	FaultGzip                           // gzip for those who accept it
	FaultGzipAlways                     // gzip for everybody
	FaultChunked                        // no Content-Length
)

// HugeBytes is the size of the body under FaultHuge.
const HugeBytes = 64 << 20

var faultNames = [...]string{
	"reset", "stall", "stall_body", "unauthorized", "forbidden", "not_found", "internal", "truncated", "cut",
	"restart_mid", "huge", "bad_json", "early_json", "duplicate", "renamed", "empty", "gzip", "gzip_always", "chunked",
}

// String lists the names of the faults, joined by +; "none" for 0.
func (f Fault) String() string {
	var names []string
	for i, name := range faultNames {
		if f.has(1 << i) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, "+")
}

func (f Fault) has(one Fault) bool { return f&one != 0 }

// damages reports whether a reader cannot have got the true page.
func (f Fault) damages() bool {
	const harmless = FaultStall | FaultStallBody | FaultGzip | FaultGzipAlways | FaultChunked
	return f&^harmless != 0
}
