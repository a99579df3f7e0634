package real

import (
	"runtime"
	"syscall"
)

// run starts the program and waits for it in a goroutine that owns a thread: with
// Pdeathsig the program dies when the thread that started it ends, and an unlocked
// goroutine's thread may end at any time.
func (p *Process) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
			// Whatever the leader left behind (nginx's workers) holds the ports.
			_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
			close(p.done)
		}
	}()
	return <-started
}
