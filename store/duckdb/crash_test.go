package duckdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vigil/config"
	"vigil/fleet"
	"vigil/store"
)

var errFault = errors.New("fault of the test")

// TestFaultAtEveryStep fails the store between any two steps of a transaction, a seal and a
// merge, reopens it and finds everything exactly once.
func TestFaultAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"begin", "commit", "committed", "seal files written", "seal commit", "merge files written", "merge commit"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			w := newWorld(3, 2, 20)
			c := &clock{w.start}
			db := openTest(t, t.TempDir(), c)
			for n := range 12 {
				if err := db.Apply(ctx, w.round(t, n)); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Maintain(ctx, w.start); err != nil {
				t.Fatal(err)
			}
			hit := 0
			db.fault = func(name string) error {
				if name == step {
					hit++
					return errFault
				}
				return nil
			}
			work := func() error {
				if strings.HasPrefix(step, "seal") || strings.HasPrefix(step, "merge") {
					c.t = w.start.Add(2 * time.Hour)
					return db.Maintain(ctx, c.t)
				}
				b := w.round(t, 12)
				if err := db.Apply(ctx, b); err == nil || step == "committed" {
					return err
				}
				if err := db.Apply(ctx, b); !errors.Is(err, ErrBroken) {
					t.Errorf("a broken store took a batch: %v", err)
				}
				// It was not stored; the caller brings it again.
				db.fault = func(string) error { return nil }
				if err := db.Reopen(ctx); err != nil {
					t.Fatal(err)
				}
				return errors.Join(errFault, db.Apply(ctx, b))
			}
			if err := work(); !errors.Is(err, errFault) || hit == 0 {
				t.Fatalf("fault at %s: %v, hit %d times", step, err, hit)
			}
			db.fault = func(string) error { return nil }
			if err := db.Reopen(ctx); err != nil {
				t.Fatal(err)
			}
			checkWorld(t, db, w)
			c.t = w.start.Add(3 * time.Hour)
			for range 2 {
				if err := db.Maintain(ctx, c.t); err != nil {
					t.Fatal(err)
				}
				c.t = c.t.Add(time.Hour)
			}
			checkWorld(t, db, w)
			checkNoOrphans(t, db)
		})
	}
}

func checkNoOrphans(t *testing.T, db *DB) {
	t.Helper()
	list, err := manifest(context.Background(), db.sql, "")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, f := range list {
		named[db.files.path(f.name)] = true
	}
	found, err := filepath.Glob(filepath.Join(db.files.dir, "*", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		if !named[path] {
			t.Errorf("file %s belongs to nobody", path)
		}
	}
	if len(found) != len(list) {
		t.Errorf("%d files, %d in the manifest", len(found), len(list))
	}
}

const childDir = "VIGIL_TEST_STORE"

// TestKilled starts a process that applies packets and maintains the store as fast as it
// can, kills it, and checks that everything it was told to be stored is there, once.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		applyForEver(dir)
	}
	t.Parallel()
	dir := t.TempDir()
	rounds := 0
	for _, after := range []int{3, 8, 15, 23} {
		rounds = killAfter(t, dir, rounds, after)
		w := newWorld(5, 3, 30)
		for n := range rounds {
			w.round(t, n)
		}
		c := &clock{w.start.Add(time.Hour)}
		db, err := Open(context.Background(), Options{Dir: dir, Config: config.Storage{SealEvery: time.Minute}, Now: c.now})
		if err != nil {
			t.Fatal(err)
		}
		// The process may have died between storing a round and saying so.
		for _, p := range must[[]store.Position](t)(db.Positions(context.Background())) {
			for w.position[p.Shard] < p.Seq {
				w.round(t, rounds)
				rounds++
			}
		}
		checkWorld(t, db, w)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if rounds < 49 {
		t.Errorf("only %d rounds were stored", rounds)
	}
}

// killAfter runs the child until it has said that many more rounds are stored.
func killAfter(t *testing.T, dir string, rounds, more int) int {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$", "-test.count=1")
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(out)
	stored := rounds
	for stored < rounds+more && scan.Scan() {
		if _, err := fmt.Sscanf(scan.Text(), "stored %d", &stored); err != nil {
			t.Fatalf("the child says %q", scan.Text())
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	if stored < rounds+more {
		t.Fatalf("the child ended after round %d", stored)
	}
	// What it said after the last line that was read.
	for scan.Scan() {
		_, _ = fmt.Sscanf(scan.Text(), "stored %d", &stored)
	}
	return stored
}

func applyForEver(dir string) {
	ctx := context.Background()
	die := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	w := newWorld(5, 3, 30)
	c := &clock{w.start}
	db, err := Open(ctx, Options{Dir: dir, Config: config.Storage{SealEvery: time.Minute}, Now: c.now})
	die(err)
	list, err := db.Positions(ctx)
	die(err)
	var stored uint64
	for _, p := range list {
		stored = p.Seq
	}
	maintained := make(chan time.Time, 1)
	go func() {
		for now := range maintained {
			die(db.Maintain(ctx, now))
		}
	}()
	tb := &panicking{}
	for n := 0; ; n++ {
		b := w.round(tb, n)
		if b.Positions[0].Seq <= stored {
			continue
		}
		die(db.Apply(ctx, b))
		fmt.Printf("stored %d\n", n+1)
		select {
		case maintained <- w.start.Add(time.Duration(n) * time.Minute): // every round may seal
		default:
		}
	}
}

// panicking is a testing.TB for a process that is not a test.
type panicking struct{ testing.TB }

func (*panicking) Helper()                           {}
func (*panicking) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func TestMissingAndDamagedFiles(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(4, 2, 20)
	c := &clock{w.start}
	db := openTest(t, t.TempDir(), c)
	for n := range 8 {
		if err := db.Apply(ctx, w.round(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := db.Maintain(ctx, c.t); err != nil {
			t.Fatal(err)
		}
		c.t = c.t.Add(2 * time.Minute)
	}
	list, err := manifest(ctx, db.sql, "kind = 'stream'")
	if err != nil || len(list) < 2 {
		t.Fatal(list, err)
	}
	var gone, hurt parquetFile
	for _, f := range list {
		if f.tier == tierRaw {
			gone = f
		} else {
			hurt = f
		}
	}
	if err := os.Remove(db.files.path(gone.name)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(db.files.path(hurt.name))
	if err != nil {
		t.Fatal(err)
	}
	for i := len(data) / 4; i < len(data)/2; i++ {
		data[i] ^= 0x5a
	}
	if err := os.WriteFile(db.files.path(hurt.name), data, 0o600); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(db.files.dir, "stream", "raw", "left-behind.parquet")
	if err := os.WriteFile(stray, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := db.Reopen(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("a file that no row names is still there")
	}
	bad := must[[]error](t)(db.Check(ctx))
	named := fmt.Sprint(bad)
	if len(bad) != 2 || !strings.Contains(named, gone.name) || !strings.Contains(named, hurt.name) {
		t.Errorf("check says %v, want %s and %s", bad, gone.name, hurt.name)
	}
	// Answers go on without the missing file.
	if _, _, err := db.StreamSeries(ctx, streamKey(0, 1), store.Window{From: w.start, To: w.end()}, 10*time.Second); err != nil {
		t.Error(err)
	}
}

// TestReadersKeepTheirFiles merges and expires files while a reader that knew them
// runs.
func TestReadersKeepTheirFiles(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(6, 2, 20)
	c := &clock{w.start}
	db := openTest(t, t.TempDir(), c)
	for n := range 10 {
		if err := db.Apply(ctx, w.round(t, n)); err != nil {
			t.Fatal(err)
		}
		if err := db.Maintain(ctx, c.t); err != nil {
			t.Fatal(err)
		}
		c.t = c.t.Add(time.Minute)
	}
	window := selection{kind: &streamKind, tier: tiers[0], fromMs: w.start.UnixMilli(), toMs: w.end().UnixMilli()}
	err := db.read(ctx, "slow question", func(r *reading) error {
		source, err := r.source(window)
		if err != nil {
			return err
		}
		c.t = w.start.Add(100 * time.Hour) // merges everything and expires the raw files
		if err := db.Maintain(ctx, c.t); err != nil {
			return err
		}
		var n int
		if err := r.tx.QueryRowContext(ctx, "SELECT count(*) FROM "+source+" WHERE NOT part").Scan(&n); err != nil {
			return err
		}
		if n != 10*2*20 {
			t.Errorf("%d rows, want %d", n, 10*2*20)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Maintain(ctx, c.t); err != nil {
		t.Fatal(err)
	}
	checkNoOrphans(t, db)
}

func TestIDsThatAreTaken(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	w := newWorld(7, 1, 3)
	c := &clock{w.start}
	db := openTest(t, t.TempDir(), c)
	// Somebody else has the id that the first stream and the server would get.
	key := streamKey(0, 0)
	for _, statement := range []string{
		fmt.Sprintf("INSERT INTO server_dim VALUES (%d, 'other'::BLOB, 0)", serverID(key.Server, 0)),
		fmt.Sprintf("INSERT INTO stream_dim VALUES (%d, 1, '', '', '', 'other'::BLOB)", streamID(key.Server, nameOf(&key), 0)),
	} {
		if _, err := db.sql.ExecContext(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		if err := db.Apply(ctx, w.round(t, n)); err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			if err := db.Reopen(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	window := store.Window{From: w.start, To: w.start.Add(time.Hour)}
	series, _, err := db.StreamSeries(ctx, key, window, time.Hour)
	if err != nil || sum(series).CoveredMs != 30_000 {
		t.Errorf("%+v, %v", sum(series), err)
	}
	traffic := must[map[string]store.Traffic](t)(db.StreamTraffic(ctx, window))
	if len(traffic) != 1 || traffic[key.Server].CoveredMs != 90_000 {
		t.Errorf("%+v", traffic)
	}
	if _, known := fleet.Of(1).Get(); !known {
		t.Fatal()
	}
}
