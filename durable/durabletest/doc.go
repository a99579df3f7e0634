// Package durabletest is a file system in memory that behaves like a bad day. It
// keeps apart what was written and what would survive a power cut, and it can fail
// any single call.
//
// Rules of the model, each as hostile as a real kernel may be:
//
//   - A name survives a power cut for certain only after SyncDir of its directory.
//     Before that each change of the directory survives or not, by seed.
//   - Bytes survive for certain only after Sync of their file. Before that each write
//     survives whole, in part (also a later part without an earlier one) or not.
//   - A Sync that fails leaves the bytes readable and forgets that they were to be
//     written. The next Sync succeeds without them. Nothing here poisons a file: that
//     is the caller's duty, and a caller that tries again is caught.
//   - A call that reports an error may have done its work all the same.
//
// Tests count calls in a run without faults (Ops), then repeat the run once per call
// and let that one fail (FailAt), or take the power there.
package durabletest
