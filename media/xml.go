package media

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// Limits of the XML scanner. A media server's statistics stay far below them; what
// does not is damaged or hostile.
const (
	xmlWindowBytes   = 32 << 10 // read-ahead; one tag or text must fit into xmlMaxTokenBytes
	xmlMaxTokenBytes = 256 << 10
	xmlMaxDepth      = 32
	xmlMaxNameBytes  = 256
)

// Errors of the scanner. The text says what was wrong with the document.
var (
	errXMLTruncated = errors.New("media: xml ends in the middle")
	errXMLSyntax    = errors.New("media: xml is damaged")
	errXMLTooLarge  = errors.New("media: xml is over a limit")
)

type xmlKind uint8

const (
	xmlStart xmlKind = iota + 1
	xmlEnd
	xmlText
)

// xmlScanner splits an XML document into tags and text without building a tree and
// without allocating. It exists because the standard decoder costs about ten times
// the CPU, and polling must not be felt on the media server's machine. It is
// tolerant of what servers really write (unescaped ampersands, bytes in a foreign
// charset) and strict where a mistake would give wrong numbers: tags must nest, and
// a document that ends early is an error.
type xmlScanner struct {
	r        io.Reader
	buf      []byte
	pos, end int
	eof      bool
	readErr  error

	// The token found by next. The slices are valid until the next call.
	name  []byte
	attrs []byte
	text  []byte

	pendingEnd bool     // the start tag was self-closing
	names      []byte   // names of open elements, one after another
	ends       []int    // end of each name in names
	scratch    [16]byte // for entities
	textBuf    []byte
}

func (s *xmlScanner) reset(r io.Reader) {
	if s.buf == nil {
		s.buf = make([]byte, xmlWindowBytes)
	}
	*s = xmlScanner{r: r, buf: s.buf, names: s.names[:0], ends: s.ends[:0], textBuf: s.textBuf[:0]}
}

// next returns the next tag or text. io.EOF means that the root element was closed;
// what follows it is not looked at.
func (s *xmlScanner) next() (xmlKind, error) {
	if s.pendingEnd {
		s.pendingEnd = false
		s.pop()
		return xmlEnd, nil
	}
	for {
		if len(s.ends) == 0 && len(s.names) > 0 {
			return 0, io.EOF
		}
		if err := s.need(1); err != nil {
			return 0, err
		}
		if s.buf[s.pos] != '<' {
			if ok, err := s.scanText(); ok || err != nil {
				return xmlText, err
			}
			continue
		}
		if err := s.need(2); err != nil {
			return 0, err
		}
		switch s.buf[s.pos+1] {
		case '?':
			if _, err := s.skipPast("?>"); err != nil {
				return 0, err
			}
		case '!':
			if ok, err := s.scanDeclaration(); ok || err != nil {
				return xmlText, err
			}
		case '/':
			return xmlEnd, s.scanEnd()
		default:
			return xmlStart, s.scanStart()
		}
	}
}

// need makes at least n bytes available at pos.
func (s *xmlScanner) need(n int) error {
	for s.end-s.pos < n {
		if err := s.fill(); err != nil {
			return err
		}
	}
	return nil
}

func (s *xmlScanner) fill() error {
	if s.readErr != nil {
		return s.readErr
	}
	if s.eof {
		return errXMLTruncated
	}
	if s.pos > 0 {
		s.end = copy(s.buf, s.buf[s.pos:s.end])
		s.pos = 0
	}
	if s.end == len(s.buf) {
		if len(s.buf) >= xmlMaxTokenBytes {
			return fmt.Errorf("%w: one tag or text is longer than %d bytes", errXMLTooLarge, xmlMaxTokenBytes)
		}
		s.buf = append(s.buf, make([]byte, len(s.buf))...)
	}
	n, err := s.r.Read(s.buf[s.end:])
	s.end += n
	switch {
	case errors.Is(err, io.EOF):
		s.eof = true
	case errors.Is(err, io.ErrUnexpectedEOF):
		s.readErr = errXMLTruncated
	case err != nil:
		s.readErr = err
	}
	return nil
}

// until returns the bytes up to the delimiter, which must come, and moves past it.
func (s *xmlScanner) skipPast(delim string) ([]byte, error) {
	from := 0
	for {
		if i := bytes.Index(s.buf[s.pos+from:s.end], []byte(delim)); i >= 0 {
			found := s.buf[s.pos : s.pos+from+i]
			s.pos += from + i + len(delim)
			return found, nil
		}
		from = max(0, s.end-s.pos-len(delim)+1)
		if err := s.fill(); err != nil {
			return nil, err
		}
	}
}

// scanText reads up to the next tag. It reports false for text outside the root and
// for white space, which carries nothing.
func (s *xmlScanner) scanText() (bool, error) {
	// What is no XML at all may go on for ever without a tag.
	if c := s.buf[s.pos]; len(s.ends) == 0 && c != ' ' && c != '\t' && c != '\r' && c != '\n' && c != 0xef {
		return false, fmt.Errorf("%w: it begins with %s", errXMLSyntax, quoteStart(s.buf[s.pos:s.end]))
	}
	from := 0
	for {
		if i := bytes.IndexByte(s.buf[s.pos+from:s.end], '<'); i >= 0 {
			raw := s.buf[s.pos : s.pos+from+i]
			s.pos += from + i
			return s.setText(raw)
		}
		from = s.end - s.pos
		if err := s.fill(); err != nil {
			return false, err
		}
	}
}

func (s *xmlScanner) setText(raw []byte) (bool, error) {
	for n := len(raw); n > 0 && (raw[n-1] == '\n' || raw[n-1] == '\r'); n-- {
		raw = raw[:n-1]
	}
	if len(s.ends) == 0 {
		if len(bytes.Trim(raw, " \t\r\n\ufeff")) == 0 {
			return false, nil
		}
		return false, fmt.Errorf("%w: it begins with %s", errXMLSyntax, quoteStart(raw))
	}
	// Spaces alone may be a name (nginx-rtmp replaces what it cannot show by spaces),
	// so only text that is empty without line breaks carries nothing.
	for len(raw) > 0 && (raw[0] == '\n' || raw[0] == '\r') {
		raw = raw[1:]
	}
	if len(raw) == 0 {
		return false, nil
	}
	s.text = s.unescape(raw)
	return true, nil
}

// scanDeclaration handles comments, CDATA and the document type.
func (s *xmlScanner) scanDeclaration() (isText bool, err error) {
	if err := s.need(4); err != nil {
		return false, err
	}
	if bytes.HasPrefix(s.buf[s.pos:s.end], []byte("<!--")) {
		s.pos += 4
		_, err := s.skipPast("-->")
		return false, err
	}
	if err := s.need(9); err != nil {
		return false, err
	}
	if bytes.HasPrefix(s.buf[s.pos:s.end], []byte("<![CDATA[")) {
		s.pos += 9
		raw, err := s.skipPast("]]>")
		if err != nil || len(s.ends) == 0 {
			return false, err
		}
		s.text = raw
		return true, nil
	}
	raw, err := s.skipPast(">")
	if err == nil && bytes.IndexByte(raw, '[') >= 0 {
		return false, fmt.Errorf("%w: a document type with entities is not read", errXMLSyntax)
	}
	return false, err
}

func (s *xmlScanner) scanStart() error {
	raw, err := s.tag()
	if err != nil {
		return err
	}
	raw = raw[1:]
	if n := len(raw); n > 0 && raw[n-1] == '/' {
		raw, s.pendingEnd = raw[:n-1], true
	}
	n := nameLen(raw)
	if n == 0 || n > xmlMaxNameBytes {
		return fmt.Errorf("%w: a tag begins with %s", errXMLSyntax, quoteStart(raw))
	}
	s.name, s.attrs = raw[:n], raw[n:]
	if len(s.ends) >= xmlMaxDepth {
		return fmt.Errorf("%w: elements nest deeper than %d", errXMLTooLarge, xmlMaxDepth)
	}
	s.names = append(s.names, s.name...)
	s.ends = append(s.ends, len(s.names))
	return nil
}

func (s *xmlScanner) scanEnd() error {
	raw, err := s.tag()
	if err != nil {
		return err
	}
	name := raw[2:]
	name = name[:nameLen(name)]
	open := s.openName()
	if len(s.ends) == 0 || !bytes.Equal(name, open) {
		return fmt.Errorf("%w: </%s> closes <%s>", errXMLSyntax, clip(name), clip(open))
	}
	s.name = name
	s.pop()
	return nil
}

// tag returns everything from < up to, without, the closing >, minding quotes.
func (s *xmlScanner) tag() ([]byte, error) {
	var quote byte
	for i := 1; ; i++ {
		if s.pos+i >= s.end {
			if err := s.fill(); err != nil {
				return nil, err
			}
			i--
			continue
		}
		switch c := s.buf[s.pos+i]; {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '<':
			return nil, fmt.Errorf("%w: a tag begins inside a tag", errXMLSyntax)
		case c == '>':
			raw := s.buf[s.pos : s.pos+i]
			s.pos += i + 1
			return raw, nil
		}
	}
}

func (s *xmlScanner) openName() []byte {
	n := len(s.ends)
	if n == 0 {
		return nil
	}
	from := 0
	if n > 1 {
		from = s.ends[n-2]
	}
	return s.names[from:s.ends[n-1]]
}

// pop closes the innermost element. The name of the root stays in names, so that
// next can tell a document that is over from one that has not begun.
func (s *xmlScanner) pop() {
	n := len(s.ends) - 1
	s.ends = s.ends[:n]
	if n > 0 {
		s.names = s.names[:s.ends[n-1]]
	}
}

// skip moves past the end of the element whose start was just returned.
func (s *xmlScanner) skip() error {
	for depth := 1; depth > 0; {
		kind, err := s.next()
		if err != nil {
			return err
		}
		switch kind {
		case xmlStart:
			depth++
		case xmlEnd:
			depth--
		}
	}
	return nil
}

// leaf returns the text of the element whose start was just returned and moves past
// its end. Elements inside it are dropped. The result is valid until the next call.
func (s *xmlScanner) leaf() ([]byte, error) {
	s.textBuf = s.textBuf[:0]
	for {
		kind, err := s.next()
		switch {
		case err != nil:
			return nil, err
		case kind == xmlText:
			if len(s.textBuf)+len(s.text) > xmlMaxTokenBytes {
				return nil, fmt.Errorf("%w: one text is longer than %d bytes", errXMLTooLarge, xmlMaxTokenBytes)
			}
			s.textBuf = append(s.textBuf, s.text...)
		case kind == xmlStart:
			if err := s.skip(); err != nil {
				return nil, err
			}
		default:
			return s.textBuf, nil
		}
	}
}

// attr returns the value of one attribute of the start tag just returned.
func (s *xmlScanner) attr(name string) ([]byte, bool) {
	rest := s.attrs
	for {
		rest = bytes.TrimLeft(rest, " \t\r\n")
		n := nameLen(rest)
		if n == 0 {
			return nil, false
		}
		key := rest[:n]
		rest = bytes.TrimLeft(rest[n:], " \t\r\n=")
		if len(rest) == 0 || (rest[0] != '"' && rest[0] != '\'') {
			return nil, false
		}
		stop := bytes.IndexByte(rest[1:], rest[0])
		if stop < 0 {
			return nil, false
		}
		if string(key) == name {
			return s.unescape(rest[1 : 1+stop]), true
		}
		rest = rest[stop+2:]
	}
}

// unescape resolves the entities in place. What is no entity stays as it is.
func (s *xmlScanner) unescape(raw []byte) []byte {
	amp := bytes.IndexByte(raw, '&')
	if amp < 0 {
		return raw
	}
	out := raw[:amp] // an entity is never shorter than what it stands for
	for rest := raw[amp:]; len(rest) > 0; {
		if rest[0] == '&' {
			if value, n := s.entity(rest); n > 0 {
				out = append(out, value...)
				rest = rest[n:]
				continue
			}
		}
		next := bytes.IndexByte(rest[1:], '&') + 1
		if next == 0 {
			next = len(rest)
		}
		out = append(out, rest[:next]...)
		rest = rest[next:]
	}
	return out
}

// entity returns what the entity at the start of b stands for and its length, or 0.
func (s *xmlScanner) entity(b []byte) ([]byte, int) {
	semi := bytes.IndexByte(b[:min(len(b), 12)], ';')
	if semi < 2 {
		return nil, 0
	}
	n := semi + 1
	switch body := b[1:semi]; string(body) {
	case "lt":
		return append(s.scratch[:0], '<'), n
	case "gt":
		return append(s.scratch[:0], '>'), n
	case "amp":
		return append(s.scratch[:0], '&'), n
	case "quot":
		return append(s.scratch[:0], '"'), n
	case "apos":
		return append(s.scratch[:0], '\''), n
	default:
		if body[0] != '#' {
			return nil, 0
		}
		digits, base := string(body[1:]), 10
		if len(digits) > 1 && (digits[0] == 'x' || digits[0] == 'X') {
			digits, base = digits[1:], 16
		}
		v, err := strconv.ParseUint(digits, base, 32)
		if err != nil || v > utf8.MaxRune || !utf8.ValidRune(rune(v)) {
			return nil, 0
		}
		return utf8.AppendRune(s.scratch[:0], rune(v)), n
	}
}

func nameLen(b []byte) int {
	for i, c := range b {
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '=' || c == '"' || c == '\'' || c == '/' {
			return i
		}
	}
	return len(b)
}

func clip(b []byte) []byte { return b[:min(len(b), 40)] }

func quoteStart(b []byte) string { return strconv.Quote(string(clip(bytes.TrimSpace(b)))) }
