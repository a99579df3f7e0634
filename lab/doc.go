// Package lab runs the real programs, vigil and vigil-agent, as processes of their own,
// beside real media servers, and breaks them: kill -9, SIGSTOP, restarts, lost answers.
// It is for tests and measurements of the whole, from the media server to the page.
//
// What is true is known from outside the programs: the media servers' own logs and
// counters, and a Recorder between agents and service that writes down every packet
// that was sent and every one that was acknowledged. After a test the store is opened
// directly, and an Account sets one against the other.
//
// Everything listens on ports of 127.0.0.1 that stay the same over restarts. Every
// program is the leader of a process group and dies with the test, however that ends.
package lab
