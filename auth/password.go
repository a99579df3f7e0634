package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"vigil/fleet"
)

// Parameters of new hashes.
const (
	argonMemoryKiB = 19 << 10
	argonPasses    = 2
	argonLanes     = 1
	argonSaltBytes = 16
	argonKeyBytes  = 32
)

// Limits of passwords, names and hashing.
const (
	minPasswordBytes = 10
	maxPasswordBytes = 1 << 10
	maxNameBytes     = 256

	coresPerHash = 2 // passwords never take more than half of the machine from the packets
	hashWait     = 1 * time.Second

	// What a stored hash may ask for: a damaged or planted one must not stop the service.
	maxArgonMemoryKiB = 256 << 10
	maxArgonPasses    = 16
	maxArgonLanes     = 8
	maxArgonBytes     = 128 // salt and key
)

// ErrHash means that a stored password hash cannot be used.
var ErrHash = errors.New("auth: password hash is invalid")

// nobodysHash has the cost of any other. Its key is a constant that argon2id yields
// for no password we could name.
const nobodysHash = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5J3Mgc2FsdC4u$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// HashPassword makes the PHC string of a password. It takes about 30 ms of a core.
func HashPassword(password string) (string, error) {
	if password == "" || len(password) > maxPasswordBytes {
		return "", CheckNewPassword(password)
	}
	salt := make([]byte, argonSaltBytes)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("make salt: %w", err)
	}
	key := argon2.IDKey([]byte(password), salt, argonPasses, argonMemoryKiB, argonLanes, argonKeyBytes)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemoryKiB, argonPasses, argonLanes,
		b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

type phc struct {
	memoryKiB uint32
	passes    uint32
	lanes     uint8
	salt, key []byte
}

func parsePHC(text string) (phc, error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return phc{}, fmt.Errorf("%w: not argon2id version %d", ErrHash, argon2.Version)
	}
	var p phc
	params := parts[3]
	if n, err := fmt.Sscanf(params, "m=%d,t=%d,p=%d", &p.memoryKiB, &p.passes, &p.lanes); err != nil || n != 3 ||
		params != fmt.Sprintf("m=%d,t=%d,p=%d", p.memoryKiB, p.passes, p.lanes) {
		return phc{}, fmt.Errorf("%w: parameters", ErrHash)
	}
	if p.lanes < 1 || p.lanes > maxArgonLanes || p.passes < 1 || p.passes > maxArgonPasses ||
		p.memoryKiB < 8*uint32(p.lanes) || p.memoryKiB > maxArgonMemoryKiB {
		return phc{}, fmt.Errorf("%w: parameters out of range", ErrHash)
	}
	var err error
	if p.salt, err = base64.RawStdEncoding.DecodeString(parts[4]); err != nil || len(p.salt) < 8 || len(p.salt) > maxArgonBytes {
		return phc{}, fmt.Errorf("%w: salt", ErrHash)
	}
	if p.key, err = base64.RawStdEncoding.DecodeString(parts[5]); err != nil || len(p.key) < 16 || len(p.key) > maxArgonBytes {
		return phc{}, fmt.Errorf("%w: key", ErrHash)
	}
	return p, nil
}

func verifyPassword(stored, password string) (bool, error) {
	p, err := parsePHC(stored)
	if err != nil {
		return false, err
	}
	key := argon2.IDKey([]byte(password), p.salt, p.passes, p.memoryKiB, p.lanes, uint32(len(p.key)))
	return subtle.ConstantTimeCompare(key, p.key) == 1, nil
}

// CheckNewPassword returns a *fleet.Error of kind invalid when a password is too weak
// to be set.
func CheckNewPassword(password string) error {
	invalid := func(message string) error {
		return &fleet.Error{Kind: fleet.KindInvalid, Message: message, Hint: "a few random words make a good password"}
	}
	switch {
	case len(password) < minPasswordBytes:
		return invalid(fmt.Sprintf("the password is too short: at least %d characters", minPasswordBytes))
	case len(password) > maxPasswordBytes:
		return invalid(fmt.Sprintf("the password is too long: at most %d bytes", maxPasswordBytes))
	case !utf8.ValidString(password):
		return invalid("the password is not UTF-8 text")
	case strings.Count(password, password[:1]) == len(password):
		return invalid("the password is one character repeated")
	}
	for _, common := range commonPasswords {
		if strings.EqualFold(password, common) {
			return invalid("the password is one of those that everybody tries first")
		}
	}
	return nil
}

// The most common ones of at least 10 characters in published lists, and our own name.
var commonPasswords = [...]string{
	"1234567890", "0123456789", "12345678910", "123456789a", "a123456789", "1q2w3e4r5t", "1qaz2wsx3edc", "qwertyuiop", "qwerty1234",
	"qwerty12345", "qwerty123456", "asdfghjkl1", "password12", "password123", "password1234", "passw0rd123", "administrator",
	"admin12345", "adminadmin", "changeme123", "letmein123", "welcome123", "iloveyou12", "0987654321", "9876543210", "zxcvbnm123",
	"abcdefghij", "abcd123456", "vigilvigil", "vigil12345", "streaming1",
}

// hashGate bounds how many hashes are made at once.
type hashGate struct{ slots chan struct{} }

func newHashGate() *hashGate {
	return &hashGate{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/coresPerHash))}
}

// enter waits for a place, at most hashWait. Whoever entered must leave.
func (g *hashGate) enter(ctx context.Context) error {
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return &fleet.Error{Kind: fleet.KindBusy, Message: "too many people log in at this moment", Hint: "try again in a few seconds"}
}

func (g *hashGate) leave() { <-g.slots }
