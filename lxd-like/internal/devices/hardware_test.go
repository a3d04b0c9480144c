package devices_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/devices"
	"github.com/cuib/cuib/lxd-like/internal/host"
	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/profiles"
)

// machine is a host with a hub, two serial adapters of one kind, which have a
// node of their own each, a stick, and two graphics cards.
func machine() fstest.MapFS {
	files := fstest.MapFS{}
	link := func(at, to string) {
		files[at] = &fstest.MapFile{Data: []byte(strings.Repeat("../", strings.Count(at, "/")) + to), Mode: 0o777 | fs.ModeSymlink}
	}
	device := func(dir, subsystem, name, number string, attributes ...string) {
		for _, a := range append(attributes, "dev="+number, "uevent=MAJOR="+strings.Replace(number, ":", "\nMINOR=", 1)+"\nDEVNAME="+name) {
			file, text, _ := strings.Cut(a, "=")
			files[dir+"/"+file] = &fstest.MapFile{Data: []byte(text + "\n"), Mode: 0o444}
		}
		link(dir+"/subsystem", "sys/bus/"+subsystem)
		kind := "char"
		if subsystem == "block" {
			kind = "block"
		}
		link("sys/dev/"+kind+"/"+number, dir)
	}
	const controller = "sys/devices/pci0000:00/0000:00:14.0"
	for i, d := range []string{"09 1d6b 0002 hub", "00 0403 6001 A1", "00 0403 6001 A2", "00 0781 5567 S1"} {
		f := strings.Fields(d)
		dir := controller + fmt.Sprintf("/usb1/1-%d", i)
		device(dir, "usb", fmt.Sprintf("bus/usb/001/%03d", i+1), fmt.Sprintf("189:%d", i),
			"bDeviceClass="+f[0], "idVendor="+f[1], "idProduct="+f[2], "serial="+f[3], "busnum=1", fmt.Sprintf("devnum=%d", i+1))
		link(fmt.Sprintf("sys/bus/usb/devices/1-%d", i), dir)
	}
	device(controller+"/usb1/1-1/1-1:1.0/ttyUSB0/tty/ttyUSB0", "tty", "ttyUSB0", "188:0")
	device(controller+"/usb1/1-2/1-2:1.0/ttyUSB1/tty/ttyUSB1", "tty", "ttyUSB1", "188:1")
	device(controller+"/usb1/1-3/1-3:1.0/host1/target/block/sdb", "block", "sdb", "8:16")
	device("sys/devices/virtual/tty/tty1", "tty", "tty1", "4:1")
	for i, ids := range []string{"8086 1234", "10de 5678"} {
		vendor, product, _ := strings.Cut(ids, " ")
		address := fmt.Sprintf("0000:0%d:00.0", i+1)
		dir := "sys/devices/pci0000:00/" + address
		files[dir+"/vendor"] = &fstest.MapFile{Data: []byte("0x" + vendor + "\n")}
		files[dir+"/device"] = &fstest.MapFile{Data: []byte("0x" + product + "\n")}
		link("sys/bus/pci/devices/"+address, dir)
		for minor, name := range map[int]string{i: fmt.Sprintf("card%d", i), 128 + i: fmt.Sprintf("renderD%d", 128+i)} {
			device(dir+"/drm/"+name, "drm", "dri/"+name, fmt.Sprintf("226:%d", minor))
			link("sys/class/drm/"+name, dir+"/drm/"+name)
		}
	}
	files["proc/driver/nvidia/gpus/0000:02:00.0/information"] = &fstest.MapFile{Data: []byte("Model: \t X\nDevice Minor: \t 0\n")}
	for name, minor := range map[string]uint32{"nvidia0": 0, "nvidiactl": 255, "nvidia-uvm": 1} {
		files["dev/"+name] = &fstest.MapFile{Mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, Sys: &syscall.Stat_t{Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(195, minor)}}
	}
	return files
}

func on(files fs.FS) devices.Env {
	e := env()
	e.Host = host.Host{Files: files}
	return e
}

// summary is what is planned, in words.
func summary(p devices.Plan) string {
	var all []string
	for _, n := range p.Nodes {
		kind := "c"
		if n.Block {
			kind = "b"
		}
		all = append(all, fmt.Sprintf("%s %s%d:%d %d:%d %o", n.Path, kind, n.Major, n.Minor, n.UID, n.GID, n.Mode))
	}
	return strings.Join(all, ", ")
}

func TestHardware(t *testing.T) {
	const (
		a1, a2, s1 = "/dev/bus/usb/001/002 c189:1 0:0 660", "/dev/bus/usb/001/003 c189:2 0:0 660", "/dev/bus/usb/001/004 c189:3 0:0 660"
		card0      = "/dev/dri/card0 c226:0 0:0 660, /dev/dri/renderD128 c226:128 0:0 660"
		card1      = "/dev/dri/card1 c226:1 0:0 660, /dev/dri/renderD129 c226:129 0:0 660, " +
			"/dev/nvidia0 c195:0 0:0 660, /dev/nvidia-uvm c195:1 0:0 660, /dev/nvidiactl c195:255 0:0 660"
		tty0, tty1 = "/dev/ttyUSB0 c188:0 0:0 660", "/dev/ttyUSB1 c188:1 0:0 660"
		sdb        = "/dev/sdb b8:16 0:0 660"
	)
	for name, tt := range map[string]struct {
		dev       profiles.Device
		want, err string
	}{
		"all usb":             {profiles.Device{"type": "usb"}, a1 + ", " + a2 + ", " + s1, ""},
		"usb by vendor":       {profiles.Device{"type": "usb", "vendorid": "0403"}, a1 + ", " + a2, ""},
		"usb by product":      {profiles.Device{"type": "usb", "vendorid": "0403", "productid": "5567"}, "", ""},
		"usb by serial":       {profiles.Device{"type": "usb", "serial": "A2"}, a2, ""},
		"usb by number":       {profiles.Device{"type": "usb", "busnum": "1", "devnum": "4"}, s1, ""},
		"usb not attached":    {profiles.Device{"type": "usb", "attached": "false", "required": "true"}, "", ""},
		"usb owned":           {profiles.Device{"type": "usb", "serial": "S1", "uid": "5", "gid": "6", "mode": "0600"}, "/dev/bus/usb/001/004 c189:3 5:6 600", ""},
		"usb required":        {profiles.Device{"type": "usb", "serial": "none", "required": "true"}, "", "required: the host has no USB device with serial none"},
		"hotplug by vendor":   {profiles.Device{"type": "unix-hotplug", "vendorid": "0403"}, tty0 + ", " + tty1, ""},
		"hotplug by product":  {profiles.Device{"type": "unix-hotplug", "productid": "5567"}, sdb, ""},
		"hotplug subsystem":   {profiles.Device{"type": "unix-hotplug", "subsystem": "tty"}, "/dev/tty1 c4:1 0:0 660, " + tty0 + ", " + tty1, ""},
		"hotplug both":        {profiles.Device{"type": "unix-hotplug", "subsystem": "block", "vendorid": "0781"}, sdb, ""},
		"hotplug controller":  {profiles.Device{"type": "unix-hotplug", "pci": "00:14.0"}, tty0 + ", " + tty1 + ", " + sdb, ""},
		"hotplug elsewhere":   {profiles.Device{"type": "unix-hotplug", "pci": "00:15.0"}, "", ""},
		"hotplug required":    {profiles.Device{"type": "unix-hotplug", "subsystem": "none", "required": "true"}, "", "required: the host has no device node with subsystem none"},
		"all gpus":            {profiles.Device{"type": "gpu"}, strings.Replace(card0+", "+card1, ", /dev/dri/card1", ", /dev/dri/card1", 1), ""},
		"gpu by number":       {profiles.Device{"type": "gpu", "id": "0"}, card0, ""},
		"gpu by address":      {profiles.Device{"type": "gpu", "pci": "02:00.0"}, card1, ""},
		"gpu by vendor":       {profiles.Device{"type": "gpu", "vendorid": "10DE"}, card1, ""},
		"gpu of two products": {profiles.Device{"type": "gpu", "vendorid": "10de", "productid": "1234"}, "", "the host has no graphics card with vendorid 10de and productid 1234"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := devices.Make(t.Context(), "d", tt.dev, on(machine()))
			if !refused(t, err, tt.err) && summary(got) != tt.want {
				t.Errorf("got  %s\nwant %s", summary(got), tt.want)
			}
		})
	}
}

func TestHotplugInheritsOwners(t *testing.T) {
	files := machine()
	files["dev/ttyUSB0"] = &fstest.MapFile{Sys: &syscall.Stat_t{Mode: unix.S_IFCHR | 0o664, Gid: 20}}
	e := on(files)
	e.IDs = nil
	got, err := devices.Make(t.Context(), "d", profiles.Device{"type": "unix-hotplug", "vendorid": "0403", "ownership.inherit": "true"}, e)
	if want := "/dev/ttyUSB0 c188:0 0:20 664, /dev/ttyUSB1 c188:1 0:0 660"; err != nil || summary(got) != want {
		t.Errorf("got %s, %v, want %s", summary(got), err, want)
	}
}

const specification = `{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
  "containerEdits": {"env": ["VENDOR=yes"]},
  "devices": [{"name": "zero", "containerEdits": {
    "env": ["WHICH=0"],
    "deviceNodes": [
      {"path": "/dev/vendor0", "hostPath": "/dev/null"},
      {"path": "/dev/vendor1", "type": "b", "major": 7, "minor": 3, "fileMode": 384, "uid": 4}],
    "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/usr/lib/vendor", "options": ["ro", "bind"]}],
    "hooks": [{"hookName": "createContainer", "path": "/bin/true"},
      {"hookName": "startContainer", "path": "/bin/tool", "args": ["tool", "update-ldcache", "--folder", "/usr/lib/vendor"]}]}}]}`

func TestCDI(t *testing.T) {
	dirs := []string{t.TempDir(), t.TempDir()}
	for i, text := range []string{strings.Replace(specification, "WHICH=0", "WHICH=old", 1), specification} {
		if err := os.WriteFile(filepath.Join(dirs[i], "vendor.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e := env()
	e.Host, e.CDI = host.Local(), dirs
	got, err := devices.Make(t.Context(), "d", profiles.Device{"type": "gpu", "id": "vendor.com/gpu=zero"}, e)
	if err != nil {
		t.Fatal(err)
	}
	if want := "/dev/vendor0 c1:3 0:0 666, /dev/vendor1 b7:3 4:0 600"; summary(got) != want {
		t.Errorf("got %s, want %s", summary(got), want)
	}
	mount := runtime.Mount{Device: "d", Source: "/etc/hostname", Target: "/usr/lib/vendor", ReadOnly: true}
	if len(got.Mounts) != 1 || got.Mounts[0] != mount {
		t.Errorf("got mounts %+v", got.Mounts)
	}
	if got.Env["VENDOR"] != "yes" || got.Env["WHICH"] != "0" {
		t.Errorf("got environment %v", got.Env)
	}
	hooks := devices.Hooks(profiles.Device{"type": "gpu", "id": "vendor.com/gpu=zero"}, e)
	if want := []string{`createContainer "/bin/true"`, `startContainer "tool update-ldcache --folder /usr/lib/vendor"`}; !slices.Equal(hooks, want) {
		t.Errorf("got hooks %q, want %q", hooks, want)
	}
	if hooks := devices.Hooks(profiles.Device{"type": "gpu"}, e); hooks != nil {
		t.Errorf("a card has hooks %q", hooks)
	}
	_, err = devices.Make(t.Context(), "d", profiles.Device{"type": "gpu", "id": "vendor.com/gpu=one"}, e)
	refused(t, err, "has vendor.com/gpu=one, there are vendor.com/gpu=zero")
}

func TestWhatComesAndGoes(t *testing.T) {
	for _, tt := range []struct {
		dev  profiles.Device
		want bool
	}{
		{profiles.Device{"type": "usb"}, true},
		{profiles.Device{"type": "unix-hotplug", "subsystem": "tty"}, true},
		{profiles.Device{"type": "gpu"}, true},
		{profiles.Device{"type": "gpu", "id": "a.b/c=d"}, false},
		{profiles.Device{"type": "unix-char", "source": "/dev/x"}, false},
		{profiles.Device{"type": "unix-char", "source": "/dev/x", "required": "false"}, true},
		{profiles.Device{"type": "unix-block", "path": "/dev/x", "major": "1", "minor": "2", "required": "false"}, false},
		{profiles.Device{"type": "disk", "source": "/x", "path": "/y"}, false},
	} {
		if got := devices.Comes(tt.dev); got != tt.want {
			t.Errorf("%v: got %t", tt.dev, got)
		}
	}
}
