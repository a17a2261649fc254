//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// cpu is the processor time, user and system, that this process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("bench: getrusage: " + err.Error()) // it has no reason to fail
	}
	return usage(&u)
}

// cpuOf is the processor time of a program that has ended, and of those of its
// children that it has waited for.
func cpuOf(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

func usage(u *syscall.Rusage) time.Duration {
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// cpuOfPID is the processor time, user and system, of a process so far, to the
// nanosecond: its CPU clock, of which clock_getcpuclockid(3) tells the number.
func cpuOfPID(r *run, pid int) time.Duration {
	const scheduled = 2 // CPUCLOCK_SCHED: of the scheduler, for all threads
	var t unix.Timespec
	r.must(unix.ClockGettime(int32(^pid<<3|scheduled), &t))
	return time.Duration(t.Nano())
}

// cpuOfServer is the processor time of a process and its children so far: Heimdal's KDC
// has a child for each processor.
func cpuOfServer(r *run, pid int) (used time.Duration) {
	for _, p := range withChildren(r, pid) {
		used += cpuOfPID(r, p)
	}
	return used
}

func withChildren(r *run, pid int) []int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	r.must(err)
	pids := []int{pid}
	for f := range strings.FieldsSeq(string(b)) {
		child, err := strconv.Atoi(f)
		r.must(err)
		pids = append(pids, child)
	}
	return pids
}

// memoryOfPID is a line of a process's /proc/PID/status, in MB.
func memoryOfPID(r *run, pid int, name string) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	r.must(err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			var kib float64
			_, err := fmt.Sscan(rest, &kib)
			r.must(err)
			return kib * 1024 / 1e6
		}
	}
	r.Fatalf("/proc/%d/status has no %s", pid, name)
	return 0
}

// apart runs the rest of the section on the last processor, where there are two: the
// servers that are measured have the first to themselves, see onFirst.
func apart(r *run) {
	lab.Need(r, "taskset")
	var all unix.CPUSet
	r.must(unix.SchedGetaffinity(0, &all))
	if all.Count() < 2 {
		return
	}
	pin(r, os.Getpid(), only(runtime.NumCPU()-1))
	r.Cleanup(func() { pin(r, os.Getpid(), &all) })
}

// onFirst is the command line of a program that has the first processor from its start:
// a Go program counts its processors then. Others move there with moveToFirst.
func onFirst(argv ...string) []string { return append([]string{"taskset", "-c", "0"}, argv...) }

func moveToFirst(r *run, pid int) {
	for _, p := range withChildren(r, pid) {
		pin(r, p, only(0))
	}
}

func only(i int) *unix.CPUSet {
	var s unix.CPUSet
	s.Set(i)
	return &s
}

// pin keeps all threads of a process on some processors.
func pin(r *run, pid int, cpus *unix.CPUSet) {
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	r.must(err)
	for _, t := range threads {
		tid, err := strconv.Atoi(t.Name())
		r.must(err)
		if err := unix.SchedSetaffinity(tid, cpus); !errors.Is(err, unix.ESRCH) {
			r.must(err)
		}
	}
}
