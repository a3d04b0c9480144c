package profiles

func imageKeys() []Key {
	return []Key{
		{Name: "image.*", Type: String, OwnOnly: true, Doc: "The properties of the image that the instance was made from."},
	}
}
