package networks

// An Integration says whether what the host's firewall drops of what a network
// needs is let pass, at the places that its owners have for that.
type Integration int

// The integrations.
const (
	IntegrateSafe   Integration = iota // Where what is let pass is what the network needs and no more.
	IntegrateNever                     // Nothing is changed.
	IntegrateAlways                    // Also where the owner lets more pass than needed.
)
