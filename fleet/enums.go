package fleet

import "fmt"

// Tech is the delivery technology of a viewer or a publisher.
type Tech uint8

// The technologies. The numbers are part of the wire format and of stored data:
// append only.
const (
	TechUnknown  Tech = 0
	TechRTMP     Tech = 1
	TechRTSP     Tech = 2
	TechSRT      Tech = 3
	TechWebRTC   Tech = 4
	TechHLS      Tech = 5
	TechDASH     Tech = 6
	TechHTTPFLV  Tech = 7
	TechHTTPTS   Tech = 8
	TechIcecast  Tech = 9
	TechSmooth   Tech = 10
	TechOther    Tech = 11
	TechMixed    Tech = 12 // several at once: see ByTech
	TechMaxKnown Tech = TechMixed
)

var techNames = [...]string{
	"unknown", "rtmp", "rtsp", "srt", "webrtc", "hls", "dash", "http-flv", "http-ts", "icecast", "smooth", "other", "mixed",
}

// String returns the lower-case name used in JSON and on pages.
func (t Tech) String() string {
	if int(t) < len(techNames) {
		return techNames[t]
	}
	return fmt.Sprintf("tech-%d", uint8(t))
}

// MarshalText writes the name.
func (t Tech) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// StreamState says what a stream was doing when it was read.
type StreamState uint8

// The states of a stream. The numbers are stored: append only.
const (
	StateUnknown StreamState = 0
	StateOnline  StreamState = 1 // a publisher is connected and data arrives
	StateIdle    StreamState = 2 // a publisher is connected and no data arrives
	StateOffline StreamState = 3 // no publisher; viewers may still wait
	StateHidden  StreamState = 4 // it may still run, but this poll cannot see it (nginx reload, other worker)
)

var stateNames = [...]string{"unknown", "online", "idle", "offline", "hidden"}

// String returns the lower-case name used in JSON and on pages.
func (s StreamState) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// MarshalText writes the name.
func (s StreamState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// PollStatus says how much one poll of a media server can be trusted.
type PollStatus uint8

// The poll statuses. The numbers are stored: append only.
const (
	StatusUnknown     PollStatus = 0
	StatusOK          PollStatus = 1
	StatusPartial     PollStatus = 2 // the numbers are true of a part of the server only
	StatusUnreachable PollStatus = 3
	StatusAuthFailed  PollStatus = 4
	StatusParseError  PollStatus = 5
	StatusStale       PollStatus = 6
)

var statusNames = [...]string{"unknown", "ok", "partial", "unreachable", "auth_failed", "parse_error", "stale"}

// String returns the lower-case name used in JSON and on pages.
func (s PollStatus) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status-%d", uint8(s))
}

// MarshalText writes the name.
func (s PollStatus) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// HasNumbers reports whether a poll with this status yields numbers.
func (s PollStatus) HasNumbers() bool { return s == StatusOK || s == StatusPartial }

// Role is what a session does with its stream.
type Role uint8

// The roles of a session. The numbers are stored: append only.
const (
	RoleUnknown   Role = 0
	RoleViewer    Role = 1
	RolePublisher Role = 2
	RoleRelay     Role = 3 // another server pulling: traffic, but not a viewer
)

var roleNames = [...]string{"unknown", "viewer", "publisher", "relay"}

// String returns the lower-case name used in JSON and on pages.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role-%d", uint8(r))
}

// MarshalText writes the name.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
