package profiles_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cuib/cuib/profiles"
	"github.com/cuib/cuib/shared/errs"
)

func TestExpand(t *testing.T) {
	first := profiles.Config{
		Options: map[string]string{"a": "first", "b": "first", "c": "first"},
		Devices: map[string]profiles.Device{"eth0": {"type": "nic", "network": "n"}, "root": {"type": "disk", "path": "/", "pool": "p", "size": "1GiB"}},
	}
	second := profiles.Config{
		Options: map[string]string{"b": "second", "c": "second"},
		Devices: map[string]profiles.Device{"root": {"type": "disk", "path": "/", "pool": "q"}},
	}
	own := profiles.Config{
		Options: map[string]string{"c": "own"},
		Devices: map[string]profiles.Device{"eth0": {"type": "none"}},
	}
	got := profiles.Expand(own, first, second)
	want := profiles.Config{
		Options: map[string]string{"a": "first", "b": "second", "c": "own"},
		Devices: map[string]profiles.Device{"eth0": {"type": "none"}, "root": {"type": "disk", "path": "/", "pool": "q"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	got.Devices["root"]["pool"] = "changed"
	if second.Devices["root"]["pool"] != "q" {
		t.Error("the expanded configuration shares its devices with the profile")
	}
}

func TestValidateDevices(t *testing.T) {
	for _, tt := range []struct{ dev, want string }{
		{"type=disk path=/ pool=default size=10GiB", ""},
		{"type=disk path=/srv source=/data readonly=true shift=true recursive=1 required=false", ""},
		{"type=disk path=/srv source=/data user.x=1", ""},
		{"type=disk path=/srv source=/data propagation=rslave raw.mount.options=noexec,nosuid", ""},
		{"type=disk path=/tmp source=tmpfs: size=1MiB initial.mode=1777 initial.uid=1 initial.gid=2 readonly=false", ""},
		{"type=disk path=/etc source=tmpfs-overlay:", ""},
		{"type=disk path=/v source=v pool=p source.snapshot=s source.type=custom propagation=private", ""},
		{"type=disk path=/ pool=p initial.zfs.blocksize=16KiB initial.btrfs.compression=zstd", ""},
		{"type=nic network=cuibbr0 name=eth0 hwaddr=10:66:6a:01:02:03 ipv4.address=10.0.0.2 ipv6.address=fd00::1 mtu=1400", ""},
		{"type=nic nictype=bridged parent=br0 host_name=veth1", ""},
		{"type=nic nictype=macvlan parent=eth0 mode=private", ""},
		{"type=unix-char source=/dev/fuse path=/dev/fuse uid=1 gid=2 mode=0666", ""},
		{"type=unix-block path=/dev/sdx major=8 minor=0", ""},
		{"type=none", ""},

		{"", `device "d": it has no type, want one of disk, `},
		{"type=toaster", `device "d": got type "toaster", want one of disk, `},
		{"type=pci", `device "d": got type "pci", but there is no such device: only virtual machines`},
		{"type=disk path=/x source=ceph:a/b", `device "d": source: got "ceph:a/b", but it cannot be set: there is no storage driver for Ceph; want an absolute path`},
		{"type=disk path=/ pool=p boot.priority=1", `device "d": boot.priority: got "1", but it cannot be set: only virtual machines have it`},
		{"type=nic nictype=sriov parent=eth0", `device "d": nictype: got "sriov", but it cannot be set: virtual functions`},
		{"type=none x=y", `device "d": a device of type none has no options, got "x"`},
		{"type=disk path=/ pool=p siz=1", `device "d": unknown option "siz", did you mean "size"?`},
		{"type=disk path=/ pool=p raw.mount.option=x", `device "d": unknown option "raw.mount.option", did you mean "raw.mount.options"?`},
		{"type=disk path=/ pool=p raw.mount.options=noexec", `device "d": raw.mount.options: the root disk does not have it`},
		{"type=disk path=/ pool=p propagation=shared", `device "d": propagation: the root disk does not have it`},
		{"type=disk path=/ pool=p initial.uid=1", `device "d": initial.uid: the root disk does not have it`},
		{"type=disk path=/x source=/x initial.zfs.blocksize=4k", `device "d": initial.zfs.blocksize: only the root disk`},
		{"type=disk path=/x source=/x initial.mode=1777", `device "d": initial.mode: only a root disk has it, whose path is "/", or one in memory`},
		{"type=disk path=/x source=/x source.snapshot=s", `device "d": source.snapshot: only a disk that is a volume of a pool`},
		{"type=disk path=/x source=v/s pool=p source.snapshot=s", `device "d": source.snapshot: source names a snapshot already`},
		{"type=disk path=/x source=v pool=p source.type=container", `device "d": source.type: got "container", but it cannot be set: only custom volumes`},
		{"type=disk path=/x source=v pool=p dependent=true", `device "d": dependent: got "true", but it cannot be set: a volume has a life of its own`},
		{"type=disk path=/x source=/x propagation=both", `device "d": propagation: got "both", want private, shared, `},
		{"type=disk path=/x source=/x raw.mount.options=a,,b", `device "d": raw.mount.options: got "a,,b"`},
		{"type=disk path=/x source=tmpfs: recursive=true", `device "d": recursive: a disk in memory does not have it`},
		{"type=disk path=/x source=tmpfs: limits.max=1MB", `device "d": limits.max: a disk in memory does not have it`},
		{"type=disk path=/x source=tmpfs:/y", `device "d": source: got "tmpfs:/y", want an absolute path`},
		{"type=disk source=/x", `device "d": a device of type disk needs the option path, want an absolute path`},
		{"type=disk path=srv source=/x", `device "d": path: got "srv", want an absolute path such as "/srv/data"`},
		{"type=disk path=/a/../.. source=/x", `device "d": path: got "/a/../.."`},
		{"type=disk path=/a source=/x/../y", `device "d": source: got "/x/../y", want an absolute path without ".."`},
		{"type=disk path=/a source=x", `device "d": source: got "x"`},
		{"type=disk path=/a", `device "d": a disk with the path "/a" needs the option source`},
		{"type=disk path=/a pool=p source=v", ""},
		{"type=disk path=/a pool=p source=v/s readonly=true required=false", ""},
		{"type=disk path=/a pool=p source=/v", `device "d": source: got "/v", want the name of a volume`},
		{"type=disk path=/a pool=p source=v/", `device "d": source: snapshot name: it is empty`},
		{"type=disk path=/a pool=p source=v/s/t", `device "d": source: snapshot name: got "s/t"`},
		{"type=disk path=/a pool=p", `device "d": a disk with a pool and the path "/a" needs the option source`},
		{"type=disk path=/a pool=p source=v shift=true", `device "d": shift: a disk that is a volume of a pool does not have it`},
		{"type=disk pool=p source=v", `device "d": a device of type disk needs the option path`},
		{"type=disk path=/a size=1 source=/v", `device "d": size: only a root disk`},
		{"type=disk path=/ pool=p source=/v", `device "d": source: the root disk does not have it`},
		{"type=disk path=// pool=p shift=true", `device "d": shift: the root disk does not have it`},
		{"type=disk path=/a source=/v required=true optional=true", `device "d": required and optional are opposites`},
		{"type=disk path=/a source=/v readonly=maybe", `device "d": readonly: got "maybe", want true or false`},
		{"type=disk path=/ pool=p size=10", ""},
		{"type=disk path=/ pool=p size=ten", `device "d": size: got "ten", want a size such as "10GiB"`},
		{"type=nic", `device "d": a device of type nic needs the option network, or nictype and parent`},
		{"type=nic network=n nictype=bridged", `device "d": network and nictype: want one of them`},
		{"type=nic network=n parent=x", `device "d": network and parent: want one of them`},
		{"type=nic nictype=bridged", `device "d": a nic of nictype bridged needs the option parent`},
		{"type=nic nictype=rooted parent=x", `device "d": nictype: got "rooted", want bridged, cni, host, ipvlan, macvlan, p2p, physical or routed`},
		{"type=nic nictype=bridged parent=x mode=vepa", `device "d": mode: a nic of nictype bridged does not have it`},
		{"type=nic nictype=macvlan parent=x host_name=y", `device "d": host_name: a nic of nictype macvlan does not have it`},
		{"type=nic nictype=bridged parent=x ipv4.address=10.0.0.1", `device "d": ipv4.address: only a nic on a managed network has it`},
		{"type=nic network=n ipv4.address=10.0.0.1/24", `device "d": ipv4.address: got "10.0.0.1/24", want an address without the length of its network`},
		{"type=nic network=n ipv4.address=::1", `device "d": ipv4.address: got`},
		{"type=nic network=n ipv6.address=10.0.0.1", `device "d": ipv6.address: got`},
		{"type=nic network=n hwaddr=11:66:6a:01:02:03", `device "d": hwaddr: got`},
		{"type=nic network=n hwaddr=10:66:6a:01:02", `device "d": hwaddr: got`},
		{"type=nic network=n hwaddr=10:66:6a:01:02:0g", `device "d": hwaddr: got`},
		{"type=nic network=n name=much-too-long-name", `device "d": name: got`},
		{"type=nic network=n mtu=10", `device "d": mtu: got "10", want a number of bytes from 68 to 65535`},
		{"type=unix-char", `device "d": a device of type unix-char needs the option source or path`},
		{"type=unix-char path=/", `device "d": path: got "/"`},
		{"type=unix-char path=/dev/x major=1", `device "d": major and minor: want both or none`},
		{"type=unix-char path=/dev/x mode=9", `device "d": mode: got "9"`},
	} {
		dev := device(tt.dev)
		err := profiles.ValidateDevices(map[string]profiles.Device{"d": dev})
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.dev, err)
			}
			continue
		}
		if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.dev, err, tt.want)
		}
	}
}

func TestValidateExpanded(t *testing.T) {
	const root = "root: type=disk path=/ pool=p; "
	for _, tt := range []struct{ devices, want string }{
		{root, ""},
		{root + "a: type=nic network=n name=eth0; b: type=nic network=n name=eth1", ""},
		{"", "the instance has no root disk"},
		{"root: type=disk path=/", `device "root": the root disk names no pool`},
		{root + "other: type=disk path=// pool=p", `devices "other" and "root" are both root disks`},
		{root + "a: type=nic network=n name=eth0; b: type=nic network=n name=eth0", `devices "a" and "b" both want the name eth0`},
		{root + "a: type=nic network=n hwaddr=10:66:6a:01:02:03; b: type=nic network=n hwaddr=10:66:6A:01:02:03", `devices "a" and "b" both want the hwaddr 10:66:6a:01:02:03`},
		{root + "a: type=nic network=n ipv4.address=10.0.0.1; b: type=nic network=m ipv4.address=10.0.0.1", ""},
		{root + "a: type=nic network=n ipv4.address=10.0.0.1; b: type=nic network=n ipv4.address=10.0.0.1", `devices "a" and "b" both want the address 10.0.0.1 on n`},
		{root + "a: type=disk path=/x source=/1; b: type=disk path=/x/ source=/2", `devices "a" and "b" both want the path /x`},
		{root + "a: type=disk path=/dev/x source=/1; b: type=unix-char source=/dev/x", `devices "a" and "b" both want the path /dev/x`},
	} {
		devices := map[string]profiles.Device{}
		for part := range strings.SplitSeq(tt.devices, ";") {
			if name, dev, ok := strings.Cut(strings.TrimSpace(part), ": "); ok {
				devices[name] = device(dev)
			}
		}
		err := profiles.ValidateExpanded(profiles.Config{Devices: devices})
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.devices, err)
			}
			continue
		}
		if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.devices, err, tt.want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, tt := range map[string]struct {
		check     func(string) error
		good, bad []string
	}{
		"instance": {
			profiles.CheckInstanceName,
			[]string{"c1", "a", "Web-1", strings.Repeat("a", 63)},
			[]string{"", "1c", "-c", "c-", "a.b", "a_b_c", "a b", "é", "a/b", "..", strings.Repeat("a", 64)},
		},
		"snapshot": {
			profiles.CheckSnapshotName,
			[]string{"snap0", "2024-01-01_10:00", "é", "a.b"},
			[]string{"", "a/b", "a b", ".x", "..", "-x", "a\x00", "a'b", "\xff", "a?b", "50%", strings.Repeat("a", 64)},
		},
		"profile": {profiles.CheckProfileName, []string{"default", "web-1"}, []string{"", "a/b", "."}},
		"device":  {profiles.CheckDeviceName, []string{"eth0", "a.b:c_d-e"}, []string{"", "a/b", "..", "a b"}},
		"pool":    {profiles.CheckPoolName, []string{"default", "p.1"}, []string{"", "a/b", "..", "-x", ".x"}},
		"volume":  {profiles.CheckVolumeName, []string{"v", "debian-12.iso", "a:b_c", strings.Repeat("a", 128)}, []string{"", "a/b", ".x", "..", "-x", "a b", "a@b", strings.Repeat("a", 129)}},
		"network": {profiles.CheckNetworkName, []string{"cuibbr0", "br.1"}, []string{"", "a/b", "..", "longer-than-fifteen", "a b", "-x"}},
	} {
		for _, g := range tt.good {
			if err := tt.check(g); err != nil {
				t.Errorf("%s %q: %v", name, g, err)
			}
		}
		for _, b := range tt.bad {
			if err := tt.check(b); !errs.Is(err, errs.Invalid) {
				t.Errorf("%s %q: %v", name, b, err)
			}
		}
	}
}

func device(text string) profiles.Device {
	dev := profiles.Device{}
	for f := range strings.FieldsSeq(text) {
		k, v, _ := strings.Cut(f, "=")
		dev[k] = v
	}
	return dev
}
