package media

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"

	"vigil/fleet"
)

// maxJSONBytes bounds the JSON page, which is held in memory: 25,000 mounts.
const maxJSONBytes = 8 << 20

// parseIceJSON reads /status-json.xsl. The page is made by a style sheet and is not
// always JSON: a title of one dash comes without quotes, and control characters
// come as they are. What can be mended without guessing is mended and marked.
func parseIceJSON(r io.Reader, in *interner) (*iceStats, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxJSONBytes+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxJSONBytes {
		return nil, errBodyTooLarge
	}
	page, repaired, err := decodeIceJSON(data)
	if err != nil {
		return nil, err
	}
	if page.Icestats == nil {
		return nil, &failure{fleet.StatusParseError, "the answer is JSON without icestats: check the url", nil}
	}
	s := &iceStats{repaired: repaired}
	for name, raw := range page.Icestats {
		if name == "source" {
			continue
		}
		if !s.setGlobal(name, jsonText(raw), in) {
			s.unknown++
		}
	}
	return s, s.addSources(page.Icestats["source"], in)
}

type icePage struct {
	Icestats map[string]json.RawMessage `json:"icestats"`
}

func decodeIceJSON(data []byte) (page icePage, repaired bool, err error) {
	if err := json.Unmarshal(data, &page); err == nil {
		return page, false, nil
	} else if bytes.HasSuffix(bytes.TrimRight(data, " \t\r\n"), []byte("}")) {
		mended := mendJSON(data)
		page = icePage{}
		if json.Unmarshal(mended, &page) == nil {
			return page, true, nil
		}
		return page, false, &failure{fleet.StatusParseError, "the server printed invalid JSON; with a user name and a password the agent reads the XML page instead, which has no such fault", err}
	} else {
		return page, false, fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
}

// addSources takes the mounts, which come as nothing, one object or a list.
func (s *iceStats) addSources(raw json.RawMessage, in *interner) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	var list []map[string]json.RawMessage
	if raw[0] == '{' {
		list = make([]map[string]json.RawMessage, 1)
		if err := json.Unmarshal(raw, &list[0]); err != nil {
			return err
		}
	} else if err := json.Unmarshal(raw, &list); err != nil {
		return &failure{fleet.StatusParseError, "the list of mounts in the answer has an unknown form", err}
	}
	for _, object := range list {
		if len(object) == 0 {
			continue
		}
		src := iceSource{mount: mountOf(string(jsonText(object["listenurl"])))}
		if src.mount == "" {
			s.unknown++
			continue
		}
		// The ISO form of the time wins, and the order of a map is random.
		s.setSource(&src, "stream_start_iso8601", jsonText(object["stream_start_iso8601"]), in)
		for name, value := range object {
			if name != "stream_start_iso8601" && !s.setSource(&src, name, jsonText(value), in) {
				s.unknown++
			}
		}
		s.sources = append(s.sources, src)
	}
	return nil
}

// jsonText is the text of a string and the digits of a number.
func jsonText(raw json.RawMessage) []byte {
	if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
		return nil
	}
	if raw[0] != '"' {
		return raw
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return nil
	}
	return []byte(text)
}

// mountOf takes the mount from the address of a stream. The host in it is what the
// server was configured with and may be anything; the path is the mount.
func mountOf(listenURL string) string {
	_, rest, ok := strings.Cut(listenURL, "://")
	if !ok {
		return ""
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return ""
	}
	mount := rest[slash:]
	if plain, err := url.PathUnescape(mount); err == nil {
		mount = plain
	}
	return mount
}

// mendJSON puts null where a value is a lone dash, and a space where a string holds a
// control character.
func mendJSON(data []byte) []byte {
	out := make([]byte, 0, len(data)+16)
	inString := false
	for i := 0; i < len(data); i++ {
		c := data[i]
		switch {
		case inString && c == '\\' && i+1 < len(data):
			out = append(out, c, data[i+1])
			i++
			continue
		case c == '"':
			inString = !inString
		case inString && c < 0x20:
			c = ' '
		case !inString && c == '-' && (i+1 >= len(data) || data[i+1] < '0' || data[i+1] > '9'):
			out = append(out, "null"...)
			continue
		}
		out = append(out, c)
	}
	return out
}
