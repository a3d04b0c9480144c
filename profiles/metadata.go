package profiles

// A Doc describes a key for clients: their help and completion are made from
// it.
type Doc struct {
	Type      string `json:"type"`
	Default   string `json:"defaultdesc,omitempty"`
	Live      string `json:"liveupdate,omitempty"` // "yes" or "no".
	Condition string `json:"condition,omitempty"`
	Required  string `json:"required,omitempty"`
	Short     string `json:"shortdesc"`
	Long      string `json:"longdesc"`
}

// A DocGroup is a group of keys, each a map of one name to its [Doc].
type DocGroup struct {
	Keys []map[string]Doc `json:"keys"`
}

// Metadata returns the tables as GET /1.0/metadata/configuration has them: by
// entity and by group.
func Metadata() map[string]map[string]DocGroup {
	instance := map[string]DocGroup{}
	for _, k := range Keys() {
		AddDoc(instance, k, k.describe())
	}
	var volume DocGroup
	for _, k := range VolumeKeys() {
		volume.Keys = append(volume.Keys, map[string]Doc{k.Name: k.describe()})
	}
	all := map[string]map[string]DocGroup{"instance": instance, "storage-volume": {"common": volume}}
	for _, t := range DeviceTypes() {
		if len(t.Options) == 0 {
			continue
		}
		var g DocGroup
		for _, o := range t.Options {
			d := o.describe()
			d.Live = "" // The daemon takes the device out and puts it in again.
			if o.Required {
				d.Required = "yes"
			}
			g.Keys = append(g.Keys, map[string]Doc{o.Name: d})
		}
		all["device-"+t.Name] = map[string]DocGroup{"device-conf": g}
	}
	return all
}

func (k Key) describe() Doc {
	d := Doc{Type: string(k.Type), Default: k.Default, Live: "no", Condition: k.Condition, Short: k.Doc}
	if k.Live {
		d.Live = "yes"
	}
	if k.Allowed != "" {
		d.Long = "It is " + k.Allowed + "."
	}
	return d
}
