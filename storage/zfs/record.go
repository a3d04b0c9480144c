package zfs

import (
	"bytes"
	"compress/zlib"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/storage"
)

// A record is kept in user properties: recordProp+"0" has its length in parts
// and a digest, and those that follow have the parts. More than these may be
// left of one that was longer.
const (
	recordProp = "cuib:record."
	partSize   = 8000     // ZFS takes 8191.
	mostRecord = 64 << 20 // Of what is read, unpacked.
	mostParts  = 200      // Of what is written: the kernel's limit on arguments.
)

// SetRecord implements [storage.Recorder].
func (d *driver) SetRecord(ctx context.Context, v storage.Volume, doc []byte) error {
	dataset, err := d.recordDataset(v)
	if err != nil {
		return err
	}
	parts, err := pack(doc)
	if err != nil {
		return wrapf(err, "record of volume %s", v)
	}
	set := []string{"set"}
	for i, part := range parts {
		set = append(set, recordProp+strconv.Itoa(i)+"="+part)
	}
	_, err = zfs(ctx, append(set, dataset)...)
	return wrapf(missing(err, v), "record of volume %s", v)
}

// Record implements [storage.Recorder].
func (d *driver) Record(ctx context.Context, v storage.Volume) ([]byte, error) {
	dataset, err := d.recordDataset(v)
	if err != nil {
		return nil, err
	}
	all, err := rows(ctx, "get", "-H", "-s", "local,received", "-o", "property,value", "all", dataset)
	if err != nil {
		return nil, wrapf(missing(err, v), "record of volume %s", v)
	}
	parts := map[string]string{}
	for _, row := range all {
		if number, ok := strings.CutPrefix(row[0], recordProp); ok && len(row) == 2 {
			parts[number] = row[1]
		}
	}
	doc, err := unpack(parts)
	return doc, wrapf(err, "record of volume %s", v)
}

func (d *driver) recordDataset(v storage.Volume) (string, error) {
	switch {
	case v == (storage.Volume{}):
		return d.root, nil
	case v.Snapshot != "":
		return "", errs.Invalidf("the snapshot %s has no record: its volume has one", v)
	}
	return d.dataset(v), nil
}

// pack returns a document as the properties have it.
func pack(doc []byte) ([]string, error) {
	var packed bytes.Buffer
	z := zlib.NewWriter(&packed)
	if _, err := z.Write(doc); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	text := base64.StdEncoding.EncodeToString(packed.Bytes())
	parts := []string{""}
	for len(text) > 0 {
		n := min(partSize, len(text))
		parts, text = append(parts, text[:n]), text[n:]
	}
	if len(parts) > mostParts {
		return nil, errs.Invalidf("it has %d bytes, which is too long", len(doc))
	}
	parts[0] = fmt.Sprintf("%d %s", len(parts)-1, digest(doc))
	return parts, nil
}

func digest(doc []byte) string {
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}

// unpack returns the document that the properties have, nil if there is none.
func unpack(parts map[string]string) ([]byte, error) {
	head, ok := parts["0"]
	if !ok {
		return nil, nil
	}
	count, sum, _ := strings.Cut(head, " ")
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > mostParts {
		return nil, errs.Invalidf("property %s0 is %q", recordProp, head)
	}
	var text strings.Builder
	for i := range n {
		text.WriteString(parts[strconv.Itoa(i+1)])
	}
	z, err := zlib.NewReader(base64.NewDecoder(base64.StdEncoding, strings.NewReader(text.String())))
	if err != nil {
		return nil, errs.Invalidf("the properties %s* are damaged: %w", recordProp, err)
	}
	doc, err := io.ReadAll(io.LimitReader(z, mostRecord))
	if err != nil || digest(doc) != sum {
		return nil, errs.Invalidf("the properties %s* are damaged", recordProp)
	}
	return doc, nil
}
