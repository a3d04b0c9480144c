package profiles

func noneType() DeviceType {
	return DeviceType{Name: "none", Doc: "Nothing: it hides the device of that name which a profile has."}
}
