package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vigil/fleet"
)

var update = flag.Bool("update", false, "write the golden files and the generated pages anew")

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run: go test ./config -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what comes out now (-want +got); run go test ./config -update and read the difference:\n%s", path, diff)
	}
}

func TestFixtures(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			src, err := ReadFile(file, true)
			if err != nil {
				t.Fatal(err)
			}
			src.Host = "media7"
			golden(t, strings.TrimSuffix(file, ".toml")+".out", outcome(t, src, strings.HasPrefix(src.Name, "agent_")))
		})
	}
}

func outcome(t *testing.T, src Source, agent bool) []byte {
	t.Helper()
	var values *Values
	var err error
	if agent {
		_, values, err = LoadAgent(src)
	} else {
		_, values, err = LoadService(src)
	}
	var out bytes.Buffer
	if err != nil {
		out.WriteString(err.Error() + "\n")
		return out.Bytes()
	}
	if err := values.Show(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestPrecedence(t *testing.T) {
	t.Parallel()
	src := Source{
		Name: "vigil.toml",
		Data: []byte("[ingest]\nlisten = \"127.0.0.1:1\"\nmax_in_flight = 7\nack_timeout = \"7s\"\n"),
		Environ: []string{
			"VIGIL_INGEST_LISTEN=127.0.0.1:2", "VIGIL_INGEST_ACK_TIMEOUT=8s",
			"VIGIL_AGENT_SPOOL_DIR=/of/the/other/program", "PATH=/bin",
		},
		Set: []string{"ingest.listen=127.0.0.1:3"},
	}
	c, values, err := LoadService(src)
	if err != nil {
		t.Fatal(err)
	}
	if c.Ingest.Listen != "127.0.0.1:3" || c.Ingest.AckTimeout != 8*time.Second || c.Ingest.MaxInFlight != 7 {
		t.Errorf("ingest = %+v, want the flag's listen, the variable's ack_timeout and the file's max_in_flight", c.Ingest)
	}
	want := map[string]string{
		"ingest.listen": "-set", "ingest.ack_timeout": "VIGIL_INGEST_ACK_TIMEOUT",
		"ingest.max_in_flight": "vigil.toml:3", "ingest.max_packet_bytes": "default",
	}
	for key, origin := range want {
		if _, got := values.get(key); got != origin {
			t.Errorf("origin of %s = %q, want %q", key, got, origin)
		}
	}
}

func TestOverridesThatNameNothingAreProblems(t *testing.T) {
	t.Parallel()
	_, _, err := LoadService(Source{
		Environ: []string{"VIGIL_INGEST_LISTN=:1", "VIGIL_PANEL_LISTEN=nowhere"},
		Set:     []string{"ingest.lsten=:1", "ingest.listen", "storage.threads=x"},
	})
	if fleet.KindOf(err) != fleet.KindInvalid {
		t.Fatalf("kind = %v, want invalid: %v", fleet.KindOf(err), err)
	}
	for _, want := range []string{
		`did you mean "VIGIL_INGEST_LISTEN"?`, "VIGIL_PANEL_LISTEN: panel.listen",
		`-set: ingest.lsten: unknown key; did you mean "ingest.listen"?`, "-set section.key=value", "storage.threads",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
}

func TestShortIntervalShortensTheDefaultTimeout(t *testing.T) {
	t.Parallel()
	file := "interval = \"2s\"\n[service]\nurl=\"http://a\"\ntoken_file=\"/t\"\n[[server]]\nname=\"a\"\nproduct=\"icecast\"\nurl=\"http://b\"\n"
	c, _, err := LoadAgent(Source{Name: "a.toml", Data: []byte(file), Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Servers[0].Timeout != 2*time.Second {
		t.Errorf("timeout = %v, want the interval, 2s", c.Servers[0].Timeout)
	}
	if _, _, err := LoadAgent(Source{Name: "a.toml", Data: []byte(file + "timeout = \"3s\"\n"), Host: "h"}); err == nil {
		t.Error("a given timeout longer than the interval was taken")
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "none.toml")
	if _, err := ReadFile(name, true); fleet.KindOf(err) != fleet.KindMissing {
		t.Errorf("ReadFile of a missing file: %v, want kind missing", err)
	}
	if src, err := ReadFile(name, false); err != nil || src.Name != "" {
		t.Errorf("ReadFile of a missing file that need not be there = %+v, %v", src, err)
	}
}

func TestUnits(t *testing.T) {
	t.Parallel()
	size := func(text string, want int64) {
		t.Helper()
		got, err := parseSize(text)
		if err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	size("0", 0)
	size("17", 17)
	size("512MiB", 512<<20)
	size("2 GiB", 2<<30)
	size("3MB", 3_000_000)
	size("7PiB", 7<<50)
	for _, bad := range []string{"", "MiB", "-1", "1.5GiB", "9999999PiB", "12 parsecs", "0x10", "1e3"} {
		if n, err := parseSize(bad); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", bad, n)
		}
	}
	duration := func(text string, want time.Duration, back string) {
		t.Helper()
		got, err := parseDuration(text)
		if err != nil || got != want {
			t.Errorf("parseDuration(%q) = %v, %v, want %v", text, got, err, want)
		}
		if got := formatDuration(want); got != back {
			t.Errorf("formatDuration(%v) = %q, want %q", want, got, back)
		}
	}
	duration("0s", 0, "0s")
	duration("200ms", 200*time.Millisecond, "200ms")
	duration("10s", 10*time.Second, "10s")
	duration("90m", 90*time.Minute, "1h30m")
	duration("60m", time.Hour, "1h")
	duration("2d", 48*time.Hour, "2d")
	duration("1d12h", 36*time.Hour, "1d12h")
	duration("17520h", 730*day, "730d")
	for _, bad := range []string{"", "10", "-5s", "2d3d", "d", "1.5d", "999999999d", "300000h300000000000000h"} {
		if d, err := parseDuration(bad); err == nil {
			t.Errorf("parseDuration(%q) = %v, want an error", bad, d)
		}
	}
}

func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "ingest.listen=127.0.0.1:3")
	}
	f.Fuzz(func(t *testing.T, data []byte, set string) {
		src := Source{Name: "f.toml", Data: data, Set: []string{set}, Host: "h"}
		c, values, err := LoadService(src)
		if err == nil {
			again, _, err := LoadService(Source{Name: "f.toml", Data: shown(t, values)})
			if err != nil {
				t.Fatalf("what show prints cannot be read: %v\n%s", err, shown(t, values))
			}
			if diff := cmp.Diff(c, again); diff != "" {
				t.Fatalf("what show prints reads as something else (-first +again):\n%s", diff)
			}
		}
		a, values, err := LoadAgent(src)
		if err == nil {
			again, _, err := LoadAgent(Source{Name: "f.toml", Data: shown(t, values)})
			if err != nil {
				t.Fatalf("what show prints cannot be read: %v\n%s", err, shown(t, values))
			}
			if diff := cmp.Diff(a, again); diff != "" {
				t.Fatalf("what show prints reads as something else (-first +again):\n%s", diff)
			}
		}
	})
}

func shown(t *testing.T, values *Values) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := values.Show(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
