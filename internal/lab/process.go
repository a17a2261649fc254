package lab

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// keeper is the shell between the lab and a program. It starts the program in a
// process group of its own, prints its pid and waits for a line on its input:
// "stop" and "kill" end the program; the end of input, which comes when the test
// process is gone, ends it too and removes the directory.
//
// Arguments: the directory, the log file, the signal that stops the program in
// order, the program. What libfaketime leaves of a program that a signal ended goes
// too, before the start what it left of an earlier one of that number, which may have
// been another user's. Descriptor 3 is the address's lock, which is for the keeper.
const keeper = `
dir=$1 log=$2 sig=$3; shift 3
setsid /bin/sh -c 'rm -f /dev/shm/faketime_shm_$$ /dev/shm/sem.faketime_sem_$$; exec "$@"' sh "$@" </dev/null >>"$log" 2>&1 3>&- &
p=$!
echo $p
exec >/dev/null 2>&1
how=; read -r how || :
[ "$how" = kill ] && sig=KILL
kill -CONT -$p; kill -$sig $p
( i=0; while [ $i -lt 50 ]; do sleep 0.1; kill -0 $p || exit; i=$((i+1)); done; kill -KILL -$p ) 3>&- &
k=$!
wait $p
kill -KILL -$p
kill $k
rm -f /dev/shm/faketime_shm_$p /dev/shm/sem.faketime_sem_$p
[ -n "$how" ] || rm -rf -- "$dir"
exit 0`

// A process is a program under a keeper.
type process struct {
	pid    int // of the program, which leads a process group
	keeper *exec.Cmd
	orders io.WriteCloser
}

// spawn describes a program for start.
type spawn struct {
	dir  string   // removed when the test process ends
	log  string   // both of its output streams
	lock *os.File // kept open until the program has ended; may be nil
	env  []string // beside the test's own
	sig  string   // stops it in order; TERM by default
	argv []string
}

func (s spawn) start() (*process, error) {
	sig := s.sig
	if sig == "" {
		sig = "TERM"
	}
	cmd := exec.Command("/bin/sh", append([]string{"-c", keeper, "keeper", s.dir, s.log, sig}, s.argv...)...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Dir = "/"
	cmd.SysProcAttr = ownSession()
	if s.lock != nil {
		cmd.ExtraFiles = []*os.File{s.lock}
	}
	orders, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.argv[0], err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("start %s: no pid: %w", s.argv[0], err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.argv[0], err)
	}
	return &process{pid: pid, keeper: cmd, orders: orders}, nil
}

// stop ends the program in order and waits for it; kill does so with SIGKILL.
func (p *process) stop() error { return p.end("stop\n") }
func (p *process) kill() error { return p.end("kill\n") }

func (p *process) end(order string) error {
	if _, err := io.WriteString(p.orders, order); err != nil {
		return fmt.Errorf("end process %d: %w", p.pid, err)
	}
	p.orders.Close()
	return p.keeper.Wait()
}

func (p *process) signal(sig syscall.Signal) error { return signalGroup(p.pid, sig) }

// alive says whether the program still runs. One that has ended stays a zombie until
// its keeper is told to stop, so its pid cannot be another's.
func (p *process) alive() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z")
}
