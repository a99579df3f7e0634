package media

import (
	"strings"
	"unicode/utf8"
)

// Display makes text from a media server fit for a page. Text that was encoded as
// UTF-8 twice, as Icecast does with names of MP3 mounts, is repaired when that is
// certain: every character must be a byte, the bytes must be valid UTF-8, and at
// least one of them must not be ASCII. Bytes that are no text become U+FFFD, control
// characters become spaces. Keys and identities must keep the raw text.
func Display(raw string) string {
	s := raw
	if fixed, ok := undoubled(s); ok {
		s = fixed
	}
	s = strings.ToValidUTF8(s, "\ufffd")
	return strings.Map(func(r rune) rune {
		if r < 0x20 || (r >= 0x7f && r < 0xa0) {
			return ' '
		}
		return r
	}, s)
}

// undoubled undoes one round of reading UTF-8 as Latin-1.
func undoubled(s string) (string, bool) {
	if !utf8.ValidString(s) {
		return "", false
	}
	out := make([]byte, 0, len(s))
	ascii := true
	for _, r := range s {
		if r > 0xff {
			return "", false
		}
		ascii = ascii && r < 0x80
		out = append(out, byte(r))
	}
	if ascii || !utf8.Valid(out) {
		return "", false
	}
	return string(out), true
}
