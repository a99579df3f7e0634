package vigil_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers is the order of the packages: one may import only packages with a lower
// number, and its own sub-packages. A directory that is not here fails the test, so
// every new package is a decision that a review sees. docs/internals/architecture.md
// shows the same list with the reasons.
var layers = map[string]int{
	"fleet": 0,

	"command": 1, "config": 1, "durable": 1, "fleetsim": 1, "health": 1, "lifecycle": 1, "observe": 1,

	"auth": 2, "bus": 2, "failover": 2, "media": 2, "spool": 2, "wire": 2, "wire/wirepb": 2,

	"catalog": 3, "journal": 3, "live": 3, "store": 3, "store/duckdb": 3,

	"agent": 4, "ingest": 4, "report": 4, "storage": 4,

	"api": 6, "panel": 6,

	"node": 7,

	"demo": 8,

	"cmd/vigil": 9, "cmd/vigil-agent": 9, "lab": 9, "panel/screenshots": 9,

	"bench": 10, // measures with what lab starts
}

// support are packages that exist for tests. Only tests, other support packages and
// the packages in mayUseSupport import them; what they import themselves is free, as
// long as it is not above the package they support.
var support = map[string]int{
	"command/commandtest":  1,
	"durable/durabletest":  1,
	"media/mediatest":      2,
	"media/mediatest/real": 2,
	"panel/paneltest":      6,
	"report/reporttest":    4,
}

// mayUseSupport are programs that simulate a fleet.
var mayUseSupport = []string{"demo", "bench", "lab", "panel/screenshots"}

// doors says which packages import an outside module. Everyone else goes through
// them, so that a module can be replaced in one place.
var doors = []struct {
	module   string
	packages []string
	reason   string
}{
	{"github.com/nats-io/", []string{"bus"}, "bus offers the few operations that Vigil needs of NATS"},
	{"github.com/duckdb/", []string{"store/duckdb"}, "the store is an interface with one engine behind it"},
	{"github.com/prometheus/", []string{"observe"}, "observe offers counters, gauges and histograms"},
	{"github.com/BurntSushi/toml", []string{"config"}, "config reports every mistake in its own words"},
	{"google.golang.org/protobuf", []string{"wire", "wire/wirepb"}, "wire is the only one that knows bytes of packets"},
	{"github.com/klauspost/compress", []string{"wire"}, "wire is the only one that knows bytes of packets"},
	{"golang.org/x/crypto", []string{"auth"}, "argon2id for passwords"},
	{"golang.org/x/sync", []string{"*"}, "part of Go in all but name"},
	{"golang.org/x/sys", []string{"bus", "durable", "lab", "node"}, "system calls that the standard library does not have"},
	{"github.com/google/go-cmp", []string{"test"}, "tests compare values"},
	{"pgregory.net/rapid", []string{"test"}, "tests of properties"},
	{"github.com/rogpeppe/go-internal", []string{"test"}, "tests of commands"},
}

// pure packages compute. Time and addresses are arguments.
var pure = []string{"fleet", "fleetsim", "wire"}

var impureImports = []string{"os", "os/exec", "net", "net/http", "database/sql"}

func TestPackagesAreInLayers(t *testing.T) {
	t.Parallel()
	for _, p := range repo(t).packages {
		layer, known := layers[p.path]
		_, isSupport := support[p.path]
		if p.path != "." && !known && !isSupport && len(p.files) > 0 {
			t.Errorf("%s is not in the list of layers in imports_test.go", p.path)
			continue
		}
		for _, f := range p.files {
			if f.test || p.path == "." {
				continue
			}
			for _, to := range f.imports {
				target, ours := strings.CutPrefix(to, "vigil/")
				if ours {
					checkLayer(t, p.path, layer, isSupport, target)
				}
			}
		}
	}
}

func checkLayer(t *testing.T, from string, layer int, isSupport bool, target string) {
	t.Helper()
	if _, ok := support[target]; ok {
		if !isSupport && !slices.Contains(mayUseSupport, from) {
			t.Errorf("%s imports %s, which is for tests", from, target)
		}
		return
	}
	if isSupport {
		if layers[target] > support[from] {
			t.Errorf("%s supports layer %d and imports %s of layer %d", from, support[from], target, layers[target])
		}
		return
	}
	if strings.HasPrefix(from, target+"/") || strings.HasPrefix(target, from+"/") {
		return // one family
	}
	if layers[target] >= layer {
		t.Errorf("%s (layer %d) imports %s (layer %d); only lower layers may be imported", from, layer, target, layers[target])
	}
}

// TestListsAreOfWhatIsThere keeps the lists above from outliving what they speak of.
func TestListsAreOfWhatIsThere(t *testing.T) {
	t.Parallel()
	there := map[string]bool{}
	imported := map[string]bool{} // by a prefix of a module, or a package and such a prefix
	for _, p := range repo(t).packages {
		there[p.path] = true
		for _, f := range p.files {
			for _, to := range f.imports {
				for _, d := range doors {
					if strings.HasPrefix(to, d.module) {
						imported[d.module], imported[p.path+" "+d.module] = true, true
					}
				}
			}
		}
	}
	for _, list := range []map[string]int{layers, support} {
		for name := range list {
			if !there[name] {
				t.Errorf("%s has a layer, and there is no such package", name)
			}
		}
	}
	for _, d := range doors {
		if !imported[d.module] {
			t.Errorf("%s has a door, and nobody imports it", d.module)
		}
		for _, p := range d.packages {
			if p != "*" && p != "test" && !imported[p+" "+d.module] {
				t.Errorf("%s may import %s, and does not", p, d.module)
			}
		}
	}
}

func TestOutsideModulesHaveOneDoor(t *testing.T) {
	t.Parallel()
	for _, p := range repo(t).packages {
		for _, f := range p.files {
			for _, to := range f.imports {
				first, _, _ := strings.Cut(to, "/")
				if first == "vigil" || !strings.Contains(first, ".") {
					continue
				}
				checkDoor(t, p.path, f, to)
			}
		}
	}
}

func checkDoor(t *testing.T, from string, f *goFile, to string) {
	t.Helper()
	_, isSupport := support[from]
	for _, d := range doors {
		if !strings.HasPrefix(to, d.module) {
			continue
		}
		ok := f.test || isSupport || d.packages[0] == "*" || slices.Contains(d.packages, from)
		if !ok {
			t.Errorf("%s imports %s; only %v may: %s", f.name, to, d.packages, d.reason)
		}
		return
	}
	t.Errorf("%s imports %s, a module without a door; add it to imports_test.go and explain it in docs/decisions", f.name, to)
}

func TestPurePackagesDoNoIO(t *testing.T) {
	t.Parallel()
	for _, p := range repo(t).packages {
		if !slices.Contains(pure, p.path) {
			continue
		}
		for _, f := range p.files {
			if f.test {
				continue
			}
			for _, to := range f.imports {
				if slices.Contains(impureImports, to) {
					t.Errorf("%s imports %s, and the package must not do I/O", f.name, to)
				}
			}
			for _, call := range f.calls {
				if call.name == "time.Now" || call.name == "time.Since" {
					t.Errorf("%s: calls %s, and the package gets the time as an argument", f.at(call.pos), call.name)
				}
			}
		}
	}
}

// TestAgentIsSmall builds the agent without C and looks at everything that is in it.
func TestAgentIsSmall(t *testing.T) {
	t.Parallel()
	forbidden := map[string]string{
		"github.com/nats-io/":   "agents speak HTTP only",
		"github.com/duckdb/":    "agents store nothing but their spool",
		"github.com/apache/":    "agents store nothing but their spool",
		"vigil/bus":             "a part of the service",
		"vigil/journal":         "a part of the service",
		"vigil/store":           "a part of the service",
		"vigil/node":            "a part of the service",
		"vigil/media/mediatest": "for tests",
		"testing":               "for tests",
		"runtime/cgo":           "the agent runs on any Linux, without its C library",
	}
	env := append(os.Environ(), "CGO_ENABLED=0")
	list := exec.Command("go", "list", "-deps", "./cmd/vigil-agent")
	list.Env = env
	out, err := list.CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	for _, dep := range strings.Fields(string(out)) {
		for prefix, reason := range forbidden {
			if dep == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(dep, strings.TrimSuffix(prefix, "/")+"/") {
				t.Errorf("the agent depends on %s: %s", dep, reason)
			}
		}
	}
	build := exec.Command("go", "build", "-o", filepath.Join(t.TempDir(), "vigil-agent"), "./cmd/vigil-agent")
	build.Env = env
	if out, err := build.CombinedOutput(); err != nil {
		t.Errorf("the agent does not build with CGO_ENABLED=0: %v\n%s", err, out)
	}
}
