package panel

import (
	"bytes"
	"strings"
	"testing"

	"vigil/fleet"
	"vigil/report"
)

// nginx-rtmp takes streams without a name. A link without words could not be clicked.
func TestAStreamWithoutANameCanBeOpened(t *testing.T) {
	t.Parallel()
	static, err := loadAssets()
	if err != nil {
		t.Fatal(err)
	}
	templates, err := loadPages(static)
	if err != nil {
		t.Fatal(err)
	}
	row := report.Stream{Key: fleet.StreamKey{Server: "edge", App: "live"}, State: "online"}
	for part, data := range map[string]any{
		"top-streams":  topStreamsView{Rows: []report.Stream{row}},
		"streams-list": &streamsView{Streams: report.Streams{Rows: []report.Stream{row}, Total: 1, Matched: 1}},
		"stream-head":  streamView{Key: row.Key, Stream: &row},
	} {
		var b bytes.Buffer
		if err := templates.part(&b, part, data); err != nil {
			t.Errorf("%s: %v", part, err)
		}
		if !strings.Contains(b.String(), "(no name)") {
			t.Errorf("%s shows nothing for a stream without a name:\n%s", part, b.String())
		}
	}
}
