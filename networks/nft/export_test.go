package nft

// Table is the name of an owner's table.
func (f Forwards) Table(owner string) string { return f.table(owner).Name }
