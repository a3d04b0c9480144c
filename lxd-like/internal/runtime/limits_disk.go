package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cuib/cuib/shared/errs"
)

const (
	usualWeight   = 100
	maxWeightV1   = 1000 // Of BFQ, which is all that v1 has.
	weightV1      = "blkio.bfq.weight"
	weightV2      = "io.weight"
	weightBFQ     = "io.bfq.weight" // Of v2, too.
	latencyFile   = "io.latency"
	noLimitV2     = "rbps=max wbps=max riops=max wiops=max"
	noLimitV1     = "0"
	noLatencyV2   = "target=0"
	whyNoWeights  = "limits.disk.priority or limits.io.weight: this host's kernel has no weights of disks (%s)"
	whyNoLatency  = "limits.io.latency: this host's kernel has no io.latency (CONFIG_BLK_CGROUP_IOLATENCY)"
	whyLatencyV1  = "limits.io.latency: it needs the io controller of cgroup v2, and this host has the blkio controller of v1"
	whyDeviceName = `device %q: numbers such as "8:0" are allowed`
)

func (l Limits) limitsDisks() bool { return l.IOWeight != 0 || len(l.Disks) > 0 }

func (l Limits) weight() int {
	if l.IOWeight == 0 {
		return usualWeight
	}
	return l.IOWeight
}

// lacks reports whether cgroups of the host are known not to have a file.
func (c Cgroups) lacks(file string) bool { return c.DiskFiles != nil && !c.DiskFiles[file] }

func (l Limits) diskV1(host Cgroups) ([]Setting, error) {
	var list []Setting
	if l.IOWeight != 0 {
		if host.lacks(weightV1) {
			return nil, errs.Newf(errs.Unsupported, whyNoWeights, "CONFIG_BFQ_GROUP_IOSCHED")
		}
		if l.IOWeight > maxWeightV1 {
			return nil, errs.Newf(errs.Unsupported, "limits.io.weight: got %d, and with cgroup v1 it is at most %d", l.IOWeight, maxWeightV1)
		}
		list = append(list, Setting{File: weightV1, Value: strconv.Itoa(l.weight()), Reset: strconv.Itoa(usualWeight)})
	}
	for _, d := range l.Disks {
		if err := d.check(); err != nil {
			return nil, err
		}
		if d.Latency != 0 {
			return nil, errs.Newf(errs.Unsupported, whyLatencyV1)
		}
		for _, f := range []struct {
			name string
			n    int64
		}{
			{"read_bps", d.ReadBytes}, {"write_bps", d.WriteBytes}, {"read_iops", d.ReadOps}, {"write_iops", d.WriteOps},
		} {
			if f.n != 0 {
				file := "blkio.throttle." + f.name + "_device"
				list = append(list, Setting{File: file, Key: d.Device, Value: strconv.FormatInt(f.n, 10), Reset: noLimitV1})
			}
		}
	}
	return list, nil
}

func (l Limits) diskV2(host Cgroups) ([]Setting, error) {
	var list []Setting
	if l.IOWeight != 0 {
		weight, err := l.weightV2(host)
		if err != nil {
			return nil, err
		}
		list = append(list, weight)
	}
	for _, d := range l.Disks {
		if err := d.check(); err != nil {
			return nil, err
		}
		if d.Latency != 0 {
			if host.lacks(latencyFile) {
				return nil, errs.Newf(errs.Unsupported, whyNoLatency)
			}
			value := fmt.Sprintf("target=%d", d.Latency.Microseconds())
			list = append(list, Setting{File: latencyFile, Key: d.Device, Value: value, Reset: noLatencyV2})
		}
		if d.throttles() {
			value := fmt.Sprintf("rbps=%s wbps=%s riops=%s wiops=%s",
				number(d.ReadBytes, none), number(d.WriteBytes, none), number(d.ReadOps, none), number(d.WriteOps, none))
			list = append(list, Setting{File: "io.max", Key: d.Device, Value: value, Reset: noLimitV2})
		}
	}
	return list, nil
}

// weightV2 takes the file of the cost model, or that of BFQ.
func (l Limits) weightV2(host Cgroups) (Setting, error) {
	value, reset := strconv.Itoa(l.weight()), strconv.Itoa(usualWeight)
	switch {
	case !host.lacks(weightV2):
		// The file says so before the weight, which is that of all devices.
		return Setting{File: weightV2, Key: "default", Value: value, Reset: reset}, nil
	case host.lacks(weightBFQ):
		return Setting{}, errs.Newf(errs.Unsupported, whyNoWeights, "CONFIG_BLK_CGROUP_IOCOST or CONFIG_BFQ_GROUP_IOSCHED")
	case l.IOWeight > maxWeightV1:
		return Setting{}, errs.Newf(errs.Unsupported, "limits.io.weight: got %d, and with the scheduler BFQ it is at most %d", l.IOWeight, maxWeightV1)
	}
	return Setting{File: weightBFQ, Key: "default", Value: value, Reset: reset}, nil
}

func (d Disk) throttles() bool {
	return d.ReadBytes != 0 || d.WriteBytes != 0 || d.ReadOps != 0 || d.WriteOps != 0
}

func (d Disk) check() error {
	var major, minor uint32
	if _, err := fmt.Sscanf(d.Device, "%d:%d", &major, &minor); err != nil {
		return errs.Invalidf(whyDeviceName, d.Device)
	}
	if d.ReadBytes < 0 || d.WriteBytes < 0 || d.ReadOps < 0 || d.WriteOps < 0 || d.Latency < 0 {
		return errs.Invalidf("a limit of device %s is negative", d.Device)
	}
	return nil
}

// diskFiles returns which files of disks a cgroup has on this host, which the
// first one of all does not show. It is nil if that cannot be found out.
func (r *Runtime) diskFiles() map[string]bool {
	r.host.disks.Do(func() {
		host, err := r.cgroups()
		if err != nil {
			return
		}
		at := host.V1["blkio"]
		if at == "" && host.V2Has["io"] && host.enable("io") == nil {
			at = host.V2
		}
		if at != "" {
			r.host.diskFiles = filesOfCgroup(at)
		}
	})
	return r.host.diskFiles
}

// filesOfCgroup makes a cgroup to look at its files.
func filesOfCgroup(at string) map[string]bool {
	dir := filepath.Join(at, fmt.Sprintf("cuib-probe-%d-%d", os.Getpid(), time.Now().UnixNano()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Join(err, removeUnused(dir)) != nil {
		return nil
	}
	files := map[string]bool{}
	for _, e := range entries {
		files[e.Name()] = true
	}
	return files
}
