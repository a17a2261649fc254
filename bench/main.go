//go:build linux

// Command bench measures the credential guard and the domain controller and prints
// their figures beside the aims that the project has set itself, and beside other
// programs that do the same work on the same machine in the same run.
//
// It needs Debian as root and the packages that make test installs. The guard's domain
// is a real Samba domain controller; the guard and the controller under test are the
// program itself, built by this command and spoken to over its sockets. Where something
// else stands in, the figure's name says so.
//
// Only ratios travel from one machine to another: every figure comes with the
// machine that it was taken on, as a median of rounds with the least and the
// greatest of them.
//
// Read the sections in main first; figures.go says what a figure is.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A section is one part of the report.
type section struct {
	name, title string
	run         func(*run)
}

func sections() []section {
	return []section{
		{"refresh", "CPU per ticket refresh: AS exchange with the account's keys, ccache on tmpfs", refresh},
		{"warm", "Leases of an account that is ready, over the socket of a real agent", warm},
		{"cold", "Leases of an account that the guard does not know yet, from Samba by way of a relay", cold},
		{"recovery", "All accounts after their controller's return", recovery},
		{"containers", "What an identity adds to a container's start", containers},
		{"kdc", "CPU of the server per exchange with a KDC", kerberos},
		{"ldap", "CPU of the server per request to a directory", directories},
		{"start", "A domain from an empty directory, and what it holds when nobody asks", start},
		{"accounts", "A domain of 100,000 accounts beside one of 100", manyAccounts},
	}
}

func main() {
	if orders := os.Getenv(keeperEnv); orders != "" {
		fmt.Fprintln(os.Stderr, keeper(orders))
		os.Exit(1)
	}
	only := flag.String("only", "", "comma-separated `sections` instead of all: "+names())
	profile := flag.String("profile", "", "write CPU profiles of the client's side into this `directory`")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench: it takes no arguments; hint: go run ./bench -help")
		os.Exit(2)
	}
	os.Exit(report(os.Stdout, *only, *profile))
}

func names() string {
	var list []string
	for _, s := range sections() {
		list = append(list, s.name)
	}
	return strings.Join(list, ", ")
}

// report runs the sections and prints them. It returns the exit code: 1 if
// something could not be measured, 6 if an aim was missed.
func report(w io.Writer, only, profile string) int {
	begin := time.Now()
	fmt.Fprintf(w, "$ %s\n%s\n", command(), machine())
	if load := loadAverage(); load > 0.5 {
		fmt.Fprintf(w, "Load average %.1f: other programs run, and what they take is missing here; the figures of an idle machine are better\n", load)
	}
	// Whoever interrupts it finds no mount and no process left.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := 0
	built := &program{}
	defer built.remove()
	for _, s := range sections() {
		if only != "" && !slices.Contains(strings.Split(only, ","), s.name) {
			continue
		}
		figures, err := measure(ctx, s, built, profile)
		fmt.Fprintf(w, "\n%s (%s)\n", s.title, s.name)
		printFigures(w, figures)
		for _, f := range figures {
			if f.missed() && code == 0 {
				code = 6
			}
		}
		if err != nil {
			fmt.Fprintf(w, "  FAILED: %v\n", err)
			code = 1
		}
		if ctx.Err() != nil {
			break
		}
	}
	fmt.Fprintf(w, "\n%.0f s in all\n", time.Since(begin).Seconds())
	return code
}

// command is what printed the report.
func command() string {
	if s := os.Getenv("BENCH_COMMAND"); s != "" {
		return s
	}
	return strings.TrimSpace("go run ./bench " + strings.Join(os.Args[1:], " "))
}

// machine describes what the figures were taken on.
func machine() string {
	return fmt.Sprintf("%d cores of %s, %s %s, %s; %s", runtime.NumCPU(), cpuModel(), runtime.GOOS, kernel(),
		runtime.Version(), time.Now().UTC().Format("2006-01-02"))
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// loadAverage is how many programs ran or waited for a processor in the last minute.
func loadAverage() (load float64) {
	b, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(b), &load)
	}
	if err != nil {
		return 0
	}
	return load
}

func kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return strings.TrimSpace(string(b))
}
