package spool

type core struct{}

// MinMaxBytes is the smallest spool.
const MinMaxBytes = 1 << 20

// Open opens the spool in o.Dir, or makes a new one there. Damage never keeps it
// from opening: what cannot be read becomes a gap. It fails when the directory is
// locked, cannot be read, or the options are wrong.
func Open(o Options) (*Spool, error) { panic("todo") }
