package profiles

import (
	"regexp"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

const (
	wantPCI = `a PCI address such as "0000:01:00.0"`
	wantGPU = `the number of a DRM card such as "0", or a CDI name such as "nvidia.com/gpu=0"`
)

func gpuType() DeviceType {
	return DeviceType{
		Name: "gpu", Doc: "Graphics cards of the host: all, or those that the options say. Or what a CDI specification of the host names.",
		Options: append(gpuOptions(), ownerOptions()...), together: checkGPU,
	}
}

func gpuOptions() []Option {
	return []Option{
		option(Key{Name: "gputype", Type: String, Default: "physical", Allowed: "physical", Doc: "The whole card.", check: oneOf("physical")}),
		option(Key{Name: "id", Type: String, Allowed: wantGPU, Doc: "Only the card of this number, or what the host's CDI specifications have by this name.", check: is(isGPU)}),
		option(Key{Name: "pci", Type: String, Allowed: wantPCI, Doc: "Only the card at this PCI address.", check: is(isPCI)}),
		option(Key{Name: "productid", Type: String, Allowed: wantUSBID, Doc: "Only cards of this product.", check: is(isUSBID)}),
		option(Key{Name: "vendorid", Type: String, Allowed: wantUSBID, Doc: "Only cards of this vendor.", check: is(isUSBID)}),
	}
}

func checkGPU(d Device) error {
	for _, o := range []string{"pci", "id"} {
		if d[o] == "" {
			continue
		}
		for _, other := range []string{"id", "productid", "vendorid"} {
			if other != o && d[other] != "" {
				return errs.Invalidf("%s and %s: want one of them, as either says which card it is", o, other)
			}
		}
	}
	return nil
}

var (
	pciPattern = regexp.MustCompile(`^([0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]$`)
	cdiPattern = regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9._-]{0,250}[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_-]{0,250}[A-Za-z0-9])?=[A-Za-z0-9]([A-Za-z0-9_.:-]{0,250}[A-Za-z0-9])?$`)
)

func isPCI(v string) bool { return pciPattern.MatchString(v) }

// PCIAddress is a PCI address as the kernel writes it, with its domain.
func PCIAddress(v string) string {
	v = strings.ToLower(v)
	if v != "" && strings.Count(v, ":") == 1 {
		return "0000:" + v
	}
	return v
}

func isGPU(v string) bool {
	return len(v) <= 4 && only(v, digits) && v != "" || cdiPattern.MatchString(v)
}

// IsCDI reports whether a device is what a specification of the Container
// Device Interface names.
func IsCDI(d Device) bool { return d["type"] == "gpu" && strings.Contains(d["id"], "=") }
