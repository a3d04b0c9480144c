package output

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/cuib/cuib/shared/errs"
)

// YAML writes v with the names and the order that its JSON has.
func YAML(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil { // JSON is YAML.
		return err
	}
	block(&doc)
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	return errors.Join(enc.Encode(&doc), enc.Close())
}

// block takes the braces and the quotes away that JSON has.
func block(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && strings.Contains(n.Value, "\n") {
		n.Style = yaml.LiteralStyle
	}
	for _, c := range n.Content {
		block(c)
	}
}

// ParseYAML decodes YAML into a struct of the API, by its JSON names. What the
// struct does not have is an error, which says what it has.
func ParseYAML(data []byte, into any) error { return parse(data, into, into) }

// parse is [ParseYAML] whose error says what the struct told has.
func parse(data []byte, into, told any) error {
	doc, out, err := fromYAML(data)
	if err != nil || doc == nil {
		return err
	}
	if err := unknownField(doc, reflect.TypeOf(into), reflect.TypeOf(told), ""); err != nil {
		return err
	}
	return yamlError(json.Unmarshal(out, into))
}

// ParseYAMLPart is [ParseYAML] that leaves out what the struct does not have but
// a whole object of type T has, such as what of it cannot be changed.
func ParseYAMLPart[T any](data []byte, into any) error {
	if err := parse(data, new(T), into); err != nil {
		return err
	}
	doc, out, err := fromYAML(data)
	if err != nil || doc == nil {
		return err
	}
	return yamlError(json.Unmarshal(out, into))
}

func yamlError(err error) error {
	if err == nil {
		return nil
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		got, _, _ := strings.Cut(t.Value, " ") // A number has its value behind it.
		return errs.Invalidf("YAML: %s is %s, want %s", cmp.Or(t.Field, "the document"), forms[got], forms[formOf(t.Type.Kind())])
	}
	return errs.Invalidf("YAML: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// forms are what values of JSON are called in YAML.
var forms = map[string]string{"object": "a mapping", "array": "a list", "string": "a text", "number": "a number", "bool": "true or false"}

// formOf returns what a value of Go is in JSON.
func formOf(k reflect.Kind) string {
	switch k { //nolint:exhaustive // All others are numbers.
	case reflect.Struct, reflect.Map:
		return "object"
	case reflect.Slice:
		return "array"
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	}
	return "number"
}

// fromYAML returns what YAML says, and that as JSON; nil for an empty document.
func fromYAML(data []byte) (doc any, out []byte, err error) {
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, nil, errs.Invalidf("%s", strings.Replace(err.Error(), "yaml: ", "YAML: ", 1))
	}
	if doc == nil {
		return nil, nil, nil
	}
	if out, err = json.Marshal(doc); err != nil {
		return nil, nil, errs.Invalidf("YAML: %w", fmt.Errorf("a key is not a text: %w", err))
	}
	return doc, out, nil
}
