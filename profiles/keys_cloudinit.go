package profiles

func cloudInitKeys() []Key { return nil }
