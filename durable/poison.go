package durable

import "fmt"

// Poisoning returns f with the rule that after a failed Sync every Write, Truncate
// and Sync fails with ErrPoisoned. Reading and closing go on working. The files of
// OS have it already.
func Poisoning(f File) File { return &poisoning{File: f} }

type poisoning struct {
	File
	cause error // of the first failed Sync
}

func (p *poisoning) Write(data []byte) (int, error) {
	if err := p.check(); err != nil {
		return 0, err
	}
	return p.File.Write(data)
}

func (p *poisoning) Truncate(size int64) error {
	if err := p.check(); err != nil {
		return err
	}
	return p.File.Truncate(size)
}

func (p *poisoning) Sync() error {
	if err := p.check(); err != nil {
		return err
	}
	p.cause = p.File.Sync()
	return p.cause
}

func (p *poisoning) check() error {
	if p.cause == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrPoisoned, p.cause)
}
