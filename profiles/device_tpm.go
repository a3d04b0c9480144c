package profiles

import "github.com/cuib/cuib/shared/errs"

func tpmType() DeviceType {
	return DeviceType{
		Name: "tpm", Doc: "A TPM 2.0 of the instance's own, in software (swtpm).", Options: tpmOptions(),
		together: checkTPM, places: tpmPlaces,
	}
}

func tpmOptions() []Option {
	return []Option{
		{Required: true, Key: Key{Name: "path", Type: String, Allowed: `a path below /dev such as "/dev/tpm0"`, Doc: "Where the TPM is inside.", check: is(belowDev)}},
		{Required: true, Key: Key{Name: "pathrm", Type: String, Allowed: `a path below /dev such as "/dev/tpmrm0"`, Doc: "Where the kernel's resource manager of the TPM is inside, through which several programs share it.", check: is(belowDev)}},
	}
}

func checkTPM(d Device) error {
	if cleanPath(d["path"]) == cleanPath(d["pathrm"]) {
		return errs.Invalidf("path and pathrm: got %q for both, want two paths", d["path"])
	}
	return nil
}

func tpmPlaces(d Device) []string {
	return []string{"the path " + cleanPath(d["path"]), "the path " + cleanPath(d["pathrm"])}
}

func belowDev(v string) bool {
	const dev = "/dev/"
	return hostPath(v) && len(cleanPath(v)) > len(dev) && cleanPath(v)[:len(dev)] == dev
}
