package btrfs

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
)

// cmd returns a command with attributes: a type, and then its value.
func cmd(kind uint16, attrs ...any) []byte {
	var body []byte
	for i := 0; i+1 < len(attrs); i += 2 {
		text, _ := attrs[i+1].(string)
		attr, _ := attrs[i].(int)
		body = binary.LittleEndian.AppendUint16(body, uint16(attr))
		body = binary.LittleEndian.AppendUint16(body, uint16(len(text)))
		body = append(body, text...)
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	head = binary.LittleEndian.AppendUint16(head, kind)
	return append(append(head, 0, 0, 0, 0), body...)
}

func stream(cmds ...[]byte) string {
	return streamMagic + "\x01\x00\x00\x00" + string(bytes.Join(cmds, nil))
}

const selfID, baseID = "0123456789abcdef", "fedcba9876543210"

var (
	begin = cmd(cmdSubvol, attrPath, "v", attrUUID, selfID)
	ended = cmd(cmdEnd)
)

func TestRule(t *testing.T) {
	based := cmd(cmdSnapshot, attrPath, "v", attrUUID, selfID, attrCloneUUID, baseID)
	base := &subvolInfo{uuid: [16]byte([]byte(baseID))}
	for name, tt := range map[string]struct {
		stream string
		base   *subvolInfo
		want   errs.Kind
		passes bool
	}{
		"a subvolume":                {stream: stream(begin, cmd(cmdMkfile, attrPath, "a/b"), ended), passes: true},
		"a link to anywhere":         {stream: stream(begin, cmd(cmdSymlink, attrPath, "a", attrPathLink, "/../x"), ended), passes: true},
		"with its base":              {stream: stream(based, ended), base: base, passes: true},
		"data of its own":            {stream: stream(begin, cmd(cmdClone, attrPath, "a", attrCloneUUID, selfID, attrClonePath, "b"), ended), passes: true},
		"data of its base":           {stream: stream(based, cmd(cmdClone, attrPath, "a", attrCloneUUID, baseID, attrClonePath, "b"), ended), base: base, passes: true},
		"data of another":            {stream: stream(begin, cmd(cmdClone, attrPath, "a", attrCloneUUID, baseID, attrClonePath, "b"), ended), want: errs.Invalid},
		"without a base":             {stream: stream(based, ended), want: errs.Unsupported},
		"with another base":          {stream: stream(based, ended), base: &subvolInfo{}, want: errs.Unsupported},
		"nothing":                    {want: errs.Invalid},
		"no end":                     {stream: stream(begin), want: errs.Invalid},
		"no beginning":               {stream: stream(cmd(cmdMkfile, attrPath, "a"), ended), want: errs.Invalid},
		"two subvolumes":             {stream: stream(begin, begin, ended), want: errs.Invalid},
		"a name that is a path":      {stream: stream(cmd(cmdSubvol, attrPath, "a/v", attrUUID, selfID), ended), want: errs.Invalid},
		"a name that leads out":      {stream: stream(cmd(cmdSubvol, attrPath, "..", attrUUID, selfID), ended), want: errs.Invalid},
		"no name":                    {stream: stream(cmd(cmdSubvol, attrUUID, selfID), ended), want: errs.Invalid},
		"a path that leads out":      {stream: stream(begin, cmd(cmdMkfile, attrPath, "a/../../b"), ended), want: errs.Invalid},
		"an absolute path":           {stream: stream(begin, cmd(cmdRename, attrPath, "a", attrPathTo, "/b"), ended), want: errs.Invalid},
		"a hard link to the outside": {stream: stream(begin, cmd(cmdLink, attrPath, "a", attrPathLink, "../b"), ended), want: errs.Invalid},
		"an attribute twice":         {stream: stream(begin, cmd(cmdMkfile, attrPath, "a", attrPath, "../b"), ended), want: errs.Invalid},
		"a command that is too long": {stream: stream(begin, []byte("\xff\xff\xff\xff\x03\x00\x00\x00\x00\x00")), want: errs.Invalid},
		"an attribute that is too long": {
			stream: stream(begin, []byte("\x04\x00\x00\x00\x03\x00\x00\x00\x00\x00\x0f\x00\xff\x00")), want: errs.Invalid,
		},
		"another version": {stream: streamMagic + "\x02\x00\x00\x00", want: errs.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := (&streamRule{base: tt.base}).pass(&out, strings.NewReader(tt.stream+"more"))
			if tt.passes && (err != nil || out.String() != tt.stream) || !tt.passes && !errs.Is(err, tt.want) {
				t.Errorf("got %v, %q", err, out.String())
			}
		})
	}
}

func FuzzRule(f *testing.F) {
	f.Add([]byte(stream(begin, cmd(cmdMkfile, attrPath, "a/b"), cmd(cmdRename, attrPath, "a", attrPathTo, "b"), ended)))
	f.Fuzz(func(t *testing.T, data []byte) {
		rule := &streamRule{}
		var out bytes.Buffer
		if err := rule.pass(&out, bytes.NewReader(data)); err == nil {
			if !bytes.HasPrefix(data, out.Bytes()) || rule.name == "" || strings.Contains(rule.name, "/") {
				t.Errorf("%q became %q", data, out.Bytes())
			}
		}
		_, _ = pathsIn(bytes.NewReader(data))
		_ = rule.pass(io.Discard, bytes.NewReader(data))
	})
}
