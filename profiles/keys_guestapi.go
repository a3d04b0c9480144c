package profiles

func guestAPIKeys() []Key { return nil }
