package guestfs

// AsGuest is for the test of what no method shows.
func (f *FS) AsGuest(fn func() error) error { return f.asGuest(fn) }
