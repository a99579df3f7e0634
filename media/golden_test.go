package media

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vigil/fleet"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// The wall clock of all golden readings: just after the fixtures were recorded.
var recordedAt = time.Date(2026, 11, 22, 23, 37, 0, 0, time.UTC)

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func freshReading() *fleet.Reading {
	return &fleet.Reading{
		Server: fleet.ServerInfo{Key: "srv"}, AtMs: recordedAt.UnixMilli(), MonoMs: 1_000_000,
	}
}

func readFixture(t testing.TB, name string) *fleet.Reading {
	t.Helper()
	r := freshReading()
	var err error
	switch data := bytes.NewReader(fixture(t, name)); {
	case strings.HasPrefix(name, "nginx"):
		r.Server.Product = ProductNginxRTMP
		var stat *nginxStat
		if stat, err = new(nginxParser).parse(data); err == nil {
			stat.fill(r)
		}
	case strings.HasSuffix(name, ".json"):
		var stats *iceStats
		r.Server.Product = ProductIcecast
		if stats, err = parseIceJSON(data, new(interner)); err == nil {
			stats.fill(r, recordedAt)
		}
	default:
		var stats *iceStats
		r.Server.Product = ProductIcecast
		if stats, err = new(iceParser).parseStats(data); err == nil {
			stats.fill(r, recordedAt)
		}
	}
	if err != nil {
		t.Fatalf("parse %s: %v", name, err)
	}
	return r
}

func TestFixturesReadAsGolden(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/*.about")
	if err != nil || len(names) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, about := range names {
		name := strings.TrimSuffix(filepath.Base(about), ".about")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got any
			if strings.Contains(name, "listclients") {
				list, err := new(iceParser).parseListeners(bytes.NewReader(fixture(t, name)))
				if err != nil {
					t.Fatal(err)
				}
				var lines []map[string]string
				for _, l := range list {
					lines = append(lines, map[string]string{"id": l.id, "ip": l.ip, "ua": l.userAgent, "s": l.connectedS.String()})
				}
				got = lines
			} else {
				got = readFixture(t, name)
			}
			text, err := json.MarshalIndent(got, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, filepath.Join("testdata", name+".golden"), append(text, '\n'))
		})
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the test with -update to make it", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// Every fixture says where it comes from, and which class of truth it is.
func TestFixturesAreLabelled(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		switch filepath.Ext(path) {
		case ".about", ".golden", ".md":
			continue
		}
		about, err := os.ReadFile(path + ".about")
		if err != nil {
			t.Errorf("fixture %s has no label: %v", path, err)
			continue
		}
		for _, field := range []string{"class:", "product:", "version:", "date:", "source:"} {
			if !strings.Contains(string(about), field) {
				t.Errorf("%s.about lacks %s", path, field)
			}
		}
		if !strings.Contains(string(about), "recorded-real") && !strings.Contains(string(about), "spec-derived") {
			t.Errorf("%s.about has no known class", path)
		}
	}
}

// oneByte hands out a document byte by byte: tokens must not depend on how the
// network cuts it.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }

func TestParsersDoNotDependOnReadSizes(t *testing.T) {
	t.Parallel()
	whole, slow := freshReading(), freshReading()
	for _, c := range []struct {
		r    *fleet.Reading
		wrap func(io.Reader) io.Reader
	}{{whole, func(r io.Reader) io.Reader { return r }}, {slow, func(r io.Reader) io.Reader { return oneByte{r} }}} {
		stat, err := new(nginxParser).parse(c.wrap(bytes.NewReader(fixture(t, "nginx-busy.xml"))))
		if err != nil {
			t.Fatal(err)
		}
		stat.fill(c.r)
	}
	if diff := cmp.Diff(asJSON(t, whole), asJSON(t, slow)); diff != "" {
		t.Errorf("byte by byte (-whole +slow):\n%s", diff)
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTruncatedAnswersAreErrors(t *testing.T) {
	t.Parallel()
	full := bytes.TrimSpace(fixture(t, "nginx-busy.xml"))
	for n := 0; n < len(full); n += 7 {
		if _, err := new(nginxParser).parse(bytes.NewReader(full[:n])); err == nil {
			t.Fatalf("parse of the first %d of %d bytes: no error", n, len(full))
		}
	}
	ice := bytes.TrimSpace(fixture(t, "icecast-busy.xml"))
	for n := 0; n < len(ice); n += 7 {
		if _, err := new(iceParser).parseStats(bytes.NewReader(ice[:n])); err == nil {
			t.Fatalf("parse of the first %d of %d bytes: no error", n, len(ice))
		}
	}
	page := bytes.TrimSpace(fixture(t, "icecast-busy.json"))
	for n := 0; n < len(page); n += 7 {
		if _, err := parseIceJSON(bytes.NewReader(page[:n]), new(interner)); err == nil {
			t.Fatalf("parse of the first %d of %d bytes: no error", n, len(page))
		}
	}
}

func TestNginxCountsViewersWithoutPublishersAndRelays(t *testing.T) {
	t.Parallel()
	r := readFixture(t, "nginx-busy.xml")
	want := map[string]int64{"/live/s1": 3, "/live/waiting": 1, "/relay/r1": 0, "/pushed/r1": 0, "/pull/s1": 0, "2/live/s1": 0, "/vod/clip": 1}
	seen := 0
	for _, s := range r.Streams {
		key := s.Key.VHost + "/" + s.Key.App + "/" + s.Key.Name
		if w, ok := want[key]; ok {
			seen++
			if got := s.Viewers.Or(-1); got != w {
				t.Errorf("viewers of %s = %d, want %d", key, got, w)
			}
		}
	}
	if seen != len(want) {
		t.Errorf("found %d of %d streams", seen, len(want))
	}
	if r.UnknownFields != 0 {
		t.Errorf("UnknownFields = %d on a server we know", r.UnknownFields)
	}
}

func TestIcecastClampsImpossibleListenerCounts(t *testing.T) {
	t.Parallel()
	r := readFixture(t, "icecast-kh.xml")
	if v := r.Streams[0].Viewers; v.Known() {
		t.Errorf("Viewers = %s for a count near 2^64, want unknown", v)
	}
	if r.Server.ViewersNow.Known() {
		t.Errorf("ViewersNow = %s, want unknown", r.Server.ViewersNow)
	}
	if r.UnknownFields == 0 {
		t.Error("UnknownFields = 0, want the impossible counts in it")
	}
}

func TestIcecastDashTitleIsMendedAndSaid(t *testing.T) {
	t.Parallel()
	r := readFixture(t, "icecast-dash-title.json")
	if len(r.Streams) != 3 || r.Detail == "" || r.UnknownFields != 1 {
		t.Errorf("streams %d, detail %q, unknown %d; want 3, a reason, 1", len(r.Streams), r.Detail, r.UnknownFields)
	}
}

func TestDisplayRepairsOnlyWhatIsCertain(t *testing.T) {
	t.Parallel()
	f := func(raw, want string) {
		t.Helper()
		if got := Display(raw); got != want {
			t.Errorf("Display(%q) = %q, want %q", raw, got, want)
		}
	}
	f("plain", "plain")
	f("RÃ¼di & SÃ¶hne", "Rüdi & Söhne")
	f("Rüdi", "Rüdi") // encoded once: its bytes as Latin-1 are no UTF-8
	f("日本", "日本")
	f("Ã¼ 日", "Ã¼ 日") // not every character is a byte
	f("bad\xff", "bad\ufffd")
	f("tab\there", "tab here")
	f("", "")
}
