// Command bench measures Vigil and prints what it found. Each benchmark writes
// bench/results/NAME.json, so that a figure in a document can be traced to a run.
//
//	go run ./bench            # all of them
//	go run ./bench ingest     # one of them
//
// The service and the agent are measured as processes of their own, so that the
// load generator's work is not counted as theirs. Figures per CPU second are the
// honest ones: a busy machine changes throughput, and hardly changes those.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

// benchmark is one line of the table.
type benchmark struct {
	name string
	help string
	run  func(ctx context.Context, env *environment) (*result, error)
}

// benchmarks in the order in which they run.
func benchmarks() []benchmark {
	return []benchmark{
		{"ingest", "stream samples from HTTP to stored and rolled up: per CPU second, sustained per second", ingestBenchmark},
		{"disk", "bytes on disk per raw stream sample after sealing", diskBenchmark},
		{"agent", "CPU and memory of vigil-agent at 450 streams, 10 s interval", agentBenchmark},
		{"queries", "p50 and p99 of every page's question at 300,000 streams x 1 day", queriesBenchmark},
		{"live", "age of the newest sample on the page under load", liveBenchmark},
	}
}

func main() {
	quick := flag.Bool("quick", false, "small sizes, nothing is written: shows that the benchmarks work")
	out := flag.String("out", "bench/results", "directory of the results")
	flag.Usage = printUsage
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *quick, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func printUsage() {
	w := flag.CommandLine.Output()
	fmt.Fprintln(w, "usage: go run ./bench [-quick] [-out DIR] [NAME ...]")
	for _, b := range benchmarks() {
		fmt.Fprintf(w, "  %-8s %s\n", b.name, b.help)
	}
	flag.PrintDefaults()
}

func run(ctx context.Context, out string, quick bool, names []string) (err error) {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	env, err := newEnvironment(ctx, quick)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, env.close()) }()
	for _, b := range chosen {
		r, err := b.run(ctx, env)
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		r.print(os.Stdout)
		if quick {
			continue
		}
		if err := r.save(out); err != nil {
			return fmt.Errorf("save %s: %w", b.name, err)
		}
	}
	return nil
}

func choose(names []string) ([]benchmark, error) {
	all := benchmarks()
	if len(names) == 0 {
		return all, nil
	}
	var chosen []benchmark
	var known []string
	for _, b := range all {
		known = append(known, b.name)
	}
next:
	for _, name := range names {
		for _, b := range all {
			if b.name == name {
				chosen = append(chosen, b)
				continue next
			}
		}
		return nil, fmt.Errorf("no benchmark is called %q: there are %s", name, strings.Join(known, ", "))
	}
	return chosen, nil
}
