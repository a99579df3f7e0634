package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"time"
)

const (
	agentPrefix   = "vigil_agent_"
	sessionPrefix = ""
	tokenBytes    = 32
)

// tokenTextBytes is the length of 32 bytes in base64 without padding.
const tokenTextBytes = 43

// AgentToken lets agents send packets.
type AgentToken struct {
	Hash     TokenHash `json:"-"`
	ID       string    `json:"id"`                // short, not secret; names the token in lists and logs
	Agent    string    `json:"agent"`             // exact agent name, or a prefix followed by *, or * for any
	Servers  string    `json:"servers,omitempty"` // media servers that may be reported, as Agent; empty: any
	Note     string    `json:"note"`
	Created  time.Time `json:"created"`
	Revision uint64    `json:"-"`
}

// AgentTokens finds agent tokens. Reads come from memory and do not block.
type AgentTokens interface {
	AgentToken(hash TokenHash) (AgentToken, error) // ErrMissing
}

// Allows reports whether packets of the named agent may be sent with this token. A
// token without a pattern allows nothing.
func (t AgentToken) Allows(agent string) bool {
	if agent == "" {
		return false
	}
	return matches(t.Agent, agent)
}

// AllowsServer reports whether the media server with this key may be reported with this
// token. Tokens of before there was such a thing may report any.
func (t AgentToken) AllowsServer(key string) bool {
	return t.Servers == "" || matches(t.Servers, key)
}

// matches compares with an exact name, or with a prefix followed by *.
func matches(pattern, name string) bool {
	if prefix, any := strings.CutSuffix(pattern, "*"); any {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// ForOneAgent reports whether the token names one agent and not a group.
func (t AgentToken) ForOneAgent() bool { return !strings.HasSuffix(t.Agent, "*") }

// NewAgentToken makes a random token. The text is shown once; the hash is stored.
func NewAgentToken() (text string, hash TokenHash) { return newToken(agentPrefix) }

// HashAgentToken checks the form of a token and returns its hash.
func HashAgentToken(text string) (TokenHash, bool) { return hashToken(agentPrefix, text) }

// ID is a short name of a token that is not secret: the beginning of its hash.
func (h TokenHash) ID() string { return hex.EncodeToString(h[:4]) }

// Equal compares in constant time.
func (h TokenHash) Equal(other TokenHash) bool {
	return subtle.ConstantTimeCompare(h[:], other[:]) == 1
}

func newToken(prefix string) (string, TokenHash) {
	random := make([]byte, tokenBytes)
	rand.Read(random) // never fails: the runtime ends the process when there is no randomness
	text := prefix + base64.RawURLEncoding.EncodeToString(random)
	return text, sha256.Sum256([]byte(text))
}

// hashToken hashes only what newToken can have made, so that a long header costs
// nothing.
func hashToken(prefix, text string) (TokenHash, bool) {
	if len(text) != len(prefix)+tokenTextBytes || !strings.HasPrefix(text, prefix) {
		return TokenHash{}, false
	}
	return sha256.Sum256([]byte(text)), true
}

// BearerToken returns the token of the Authorization header.
func BearerToken(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	token = strings.TrimSpace(token)
	return token, token != ""
}
