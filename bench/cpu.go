//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
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

// cpuOfPID is the processor time, user and system, of a process so far, in steps of
// 10 ms.
func cpuOfPID(r *run, pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	r.must(err)
	_, after, _ := strings.Cut(string(b), ") ") // the name may have spaces
	fields := strings.Fields(after)
	var ticks int64
	for _, f := range fields[11:13] { // utime, stime: fields 14 and 15 of proc_pid_stat(5)
		n, err := strconv.ParseInt(f, 10, 64)
		r.must(err)
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100) // USER_HZ
}
