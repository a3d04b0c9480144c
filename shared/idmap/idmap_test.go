package idmap_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/idmap"
)

func TestToHostAndToGuest(t *testing.T) {
	m := idmap.Map{
		{UID: true, GID: true, Inside: 0, Host: 1000000, Size: 1000},
		{UID: true, Inside: 1000, Host: 500, Size: 1},
	}
	for _, tt := range []struct {
		kind         idmap.Kind
		inside, host int64 // -1: not mapped
	}{
		{idmap.User, 0, 1000000},
		{idmap.Group, 999, 1000999},
		{idmap.User, 1000, 500},
		{idmap.Group, 1000, -1},
		{idmap.User, 1001, -1},
		{idmap.Group, -1, 500},
		{idmap.User, -1, 999999},
		{idmap.User, -1, 501},
	} {
		if tt.inside >= 0 {
			got, ok := m.ToHost(tt.kind, tt.inside)
			if ok != (tt.host >= 0) || ok && got != tt.host {
				t.Errorf("ToHost(%d, %d) = %d, %t, want %d", tt.kind, tt.inside, got, ok, tt.host)
			}
		}
		if tt.host >= 0 {
			got, ok := m.ToGuest(tt.kind, tt.host)
			if ok != (tt.inside >= 0) || ok && got != tt.inside {
				t.Errorf("ToGuest(%d, %d) = %d, %t, want %d", tt.kind, tt.host, got, ok, tt.inside)
			}
		}
	}
	if got, ok := idmap.Map(nil).ToHost(idmap.User, 42); got != 42 || !ok {
		t.Errorf("privileged: got %d, %t", got, ok)
	}
}

func TestMerge(t *testing.T) {
	base := idmap.Default(1000000, 65536)
	for name, tt := range map[string]struct{ raw, want string }{
		"nothing":     {"", "b 0 1000000 65536"},
		"middle":      {"both 1000 1000", "b 0 1000000 1000, b 1000 1000 1, b 1001 1001001 64535"},
		"users alone": {"uid 1000 1000", "g 0 1000000 65536, u 0 1000000 1000, u 1000 1000 1, u 1001 1001001 64535"},
		"first id":    {"both 1000 0", "b 0 1000 1, b 1 1000001 65535"},
		"last id":     {"both 1000 65535", "b 0 1000000 65535, b 65535 1000 1"},
		"all ids":     {"both 100000-165535 0-65535", "b 0 100000 65536"},
		"beyond":      {"both 5 70000", "b 0 1000000 65536, b 70000 5 1"},
		"two lines":   {"uid 50-60 500-510\n\n gid 7 500", "g 0 1000000 500, g 500 7 1, u 500 50 11, b 0"},
		"own range":   {"both 1000005 3", "!of the instance's own range 1000000-1065535"},
		"inside x2":   {"uid 1 3\nuid 2 3", "!mapped twice"},
		"host x2":     {"uid 1 3\nuid 1 4", "!mapped twice"},
		"both kinds":  {"uid 1 3\ngid 1 3", "b 0 1000000 3, b 3 1 1, b 4 1000004 65532"},
	} {
		t.Run(name, func(t *testing.T) {
			extra, err := idmap.ParseRaw(tt.raw)
			if err != nil {
				t.Fatal(err)
			}
			m, err := base.Merge(extra)
			if want, fails := strings.CutPrefix(tt.want, "!"); fails {
				if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
					t.Fatalf("got %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if name == "two lines" { // The order of what starts at one id does not matter.
				host, _ := m.ToHost(idmap.User, 505)
				group, _ := m.ToHost(idmap.Group, 500)
				after, _ := m.ToHost(idmap.User, 511)
				if host != 55 || group != 7 || after != 1000511 {
					t.Errorf("got %v", m)
				}
				return
			}
			if got := text(m); got != tt.want && !sameParts(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestParseRawRefuses(t *testing.T) {
	for _, raw := range []string{
		"both 1000", "x 1 2", "uid 1-2 1", "uid 5-4 5-4", "uid a 1", "uid 1 -1", "both 4294967295 0", "both 0 1000", "gid 0-5 10-15", "uid 1 1 1", "uid - -", "uid 1- 1-",
	} {
		if all, err := idmap.ParseRaw(raw); !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "line 1: ") {
			t.Errorf("ParseRaw(%q) = %v, %v", raw, all, err)
		}
	}
}

func TestJSON(t *testing.T) {
	const wire = `[{"Isuid":true,"Isgid":false,"Hostid":1000000,"Nsid":0,"Maprange":65536}]`
	m := idmap.Map{{UID: true, Host: 1000000, Size: 65536}}
	got, err := json.Marshal(m)
	if err != nil || string(got) != wire {
		t.Errorf("got %s, %v", got, err)
	}
	var back idmap.Map
	if err := json.Unmarshal(got, &back); err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("got %v, %v", back, err)
	}
	if got, err := json.Marshal(idmap.Map(nil)); err != nil || string(got) != "[]" {
		t.Errorf("privileged: got %s, %v", got, err)
	}
	if err := json.Unmarshal([]byte("[]"), &back); err != nil || back != nil {
		t.Errorf("privileged: got %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`[{"Isuid":true,"Maprange":0}]`), &back); err == nil {
		t.Error("an empty entry is read")
	}
}

func TestOverlaps(t *testing.T) {
	m := idmap.Default(100, 10)
	for name, tt := range map[string]struct {
		o    idmap.Map
		want bool
	}{
		"itself":       {m, true},
		"next to it":   {idmap.Default(110, 10), false},
		"last id":      {idmap.Default(109, 1), true},
		"before":       {idmap.Default(90, 10), false},
		"of two kinds": {idmap.Map{{UID: true, Host: 109, Size: 1}}, true},
		"none":         {nil, false},
	} {
		if got := m.Overlaps(tt.o); got != tt.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	users, groups := idmap.Map{{UID: true, Size: 1}}, idmap.Map{{GID: true, Size: 1}}
	if users.Overlaps(groups) {
		t.Error("users overlap groups")
	}
}

func TestHostRanges(t *testing.T) {
	const other = "# comment\nalice:100000:65536\nbroken\nbob:x:1\n\n"
	for name, tt := range map[string]struct {
		subuid, subgid   string
		limits, reserved []idmap.Range
	}{
		"no root":      {other, "alice:100000:65536\n", []idmap.Range{{1000000, 999000001}}, []idmap.Range{{100000, 65536}, {100000, 65536}}},
		"root":         {"root:1000000:1000000000\n", "root:1000000:500000000", []idmap.Range{{1000000, 500000000}}, nil},
		"root, two":    {"root:10:5\n0:20:5\n", "root:12:10", []idmap.Range{{12, 3}, {20, 2}}, nil},
		"root, shared": {"_lxd:100000:10000001\nroot:100000:10000001\n", "root:100000:10000001", []idmap.Range{{1000000, 999000001}}, []idmap.Range{{100000, 10000001}}},
		"only one has": {"root:10:5\n", "", []idmap.Range{{1000000, 999000001}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			subuid, err := idmap.ReadSubIDs(strings.NewReader(tt.subuid))
			if err != nil {
				t.Fatal(err)
			}
			subgid, err := idmap.ReadSubIDs(strings.NewReader(tt.subgid))
			if err != nil {
				t.Fatal(err)
			}
			limits, reserved := idmap.HostRanges(subuid, subgid)
			if !reflect.DeepEqual(limits, tt.limits) || !reflect.DeepEqual(reserved, tt.reserved) {
				t.Errorf("got %v and %v", limits, reserved)
			}
		})
	}
}

// TestWithin gives a manager in a container no more than the container has.
func TestWithin(t *testing.T) {
	usual := []idmap.Range{{1000000, 999000001}}
	for name, tt := range map[string]struct {
		limits []idmap.Range
		own    string
		want   []idmap.Range
	}{
		"host":      {usual, "         0          0 4294967295\n", usual},
		"nesting":   {usual, "0 1000000 4194304\n", []idmap.Range{{1000000, 3194304}}},
		"few":       {usual, "0 1000000 200000\n", []idmap.Range{{65536, 134464}}},
		"too few":   {usual, "0 1000000 65536\n", nil},
		"in pieces": {[]idmap.Range{{100000, 100}}, "0 5 100010\n100050 7 1000\nodd\n", []idmap.Range{{100000, 10}, {100050, 50}}},
	} {
		own, err := idmap.ReadOwn(strings.NewReader(tt.own))
		if err != nil {
			t.Fatal(err)
		}
		if got := idmap.Within(tt.limits, own, own); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
	_, err := idmap.NewAllocator(nil, nil).Take(65536)
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "security.idmap.size") {
		t.Errorf("got %v", err)
	}
}

func TestAllocator(t *testing.T) {
	a := idmap.NewAllocator([]idmap.Range{{100, 30}, {1000, 10}}, []idmap.Range{{90, 15}, {95, 15}})
	take := func(size, want int64) {
		t.Helper()
		free := a.CheckFree(size)
		got, err := a.Take(size)
		if (free == nil) != (err == nil) {
			t.Errorf("CheckFree(%d): %v, but then %v", size, free, err)
		}
		if want < 0 {
			if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "100-129, 1000-1009") {
				t.Errorf("Take(%d) = %d, %v", size, got, err)
			}
			return
		}
		if err != nil || got != want {
			t.Errorf("Take(%d) = %d, %v, want %d", size, got, err, want)
		}
	}
	takeAt := func(base, size int64, want errs.Kind) {
		t.Helper()
		err := a.TakeAt(base, size)
		if err == nil && want != 0 || err != nil && !errs.Is(err, want) {
			t.Errorf("TakeAt(%d, %d): %v", base, size, err)
		}
	}
	take(10, 110)
	takeAt(125, 5, 0)
	takeAt(124, 2, errs.Conflict)
	takeAt(105, 2, errs.Conflict)
	takeAt(128, 3, errs.Invalid)
	takeAt(1009, 2, errs.Invalid)
	takeAt(-1, 2, errs.Invalid)
	takeAt(idmap.Max, 5, errs.Invalid)
	take(6, 1000)
	take(5, 120)
	take(5, -1)
	take(4, 1006)
	take(1, -1)
	a.Free(110, 10)
	a.Free(110, 10)
	a.Free(90, 15) // Is reserved.
	take(11, -1)
	take(4, 110)
	take(6, 114)
	if _, err := a.Take(0); !errs.Is(err, errs.Invalid) {
		t.Errorf("Take(0): %v", err)
	}
}

func TestAllocatorMoves(t *testing.T) {
	a := idmap.NewAllocator([]idmap.Range{{100, 100}}, []idmap.Range{{190, 5}})
	for _, tt := range []struct {
		from, to idmap.Range
		want     errs.Kind // 0 for success.
	}{
		{idmap.Range{}, idmap.Range{100, 10}, 0},
		{idmap.Range{}, idmap.Range{105, 10}, errs.Conflict},
		{idmap.Range{100, 10}, idmap.Range{105, 10}, 0}, // Over itself.
		{idmap.Range{105, 10}, idmap.Range{105, 20}, 0},
		{idmap.Range{105, 20}, idmap.Range{195, 10}, errs.Invalid},
		{idmap.Range{190, 5}, idmap.Range{190, 5}, errs.Conflict}, // Is reserved.
		{idmap.Range{}, idmap.Range{110, 1}, errs.Conflict},       // What failed has taken nothing back.
		{idmap.Range{}, idmap.Range{100, 5}, 0},
	} {
		checked, err := a.Check(tt.from, tt.to), a.Move(tt.from, tt.to)
		if (err != nil) != (tt.want != 0) || err != nil && !errs.Is(err, tt.want) || (checked == nil) != (err == nil) {
			t.Errorf("from %v to %v: %v, checked: %v", tt.from, tt.to, err, checked)
		}
	}
}

func FuzzParseRaw(f *testing.F) {
	for _, s := range []string{"both 1000 1000", "uid 50-60 500-510\ngid 1 2", "both 1000005 3", "uid 1 3\nuid 2 3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		extra, err := idmap.ParseRaw(s)
		if err != nil {
			return
		}
		m, err := idmap.Default(1000000, 65536).Merge(extra)
		if err != nil {
			return
		}
		for _, e := range m {
			if e.Size < 1 || e.Inside < 0 || e.Host < 0 || !e.UID && !e.GID {
				t.Fatalf("%q made %+v", s, e)
			}
			for _, k := range []idmap.Kind{idmap.User, idmap.Group} {
				if k == idmap.User && !e.UID || k == idmap.Group && !e.GID {
					continue
				}
				if got, ok := m.ToHost(k, e.Inside+e.Size-1); !ok || got != e.Host+e.Size-1 {
					t.Fatalf("%q maps an id twice: %v", s, m)
				}
				if got, ok := m.ToGuest(k, e.Host); !ok || got != e.Inside {
					t.Fatalf("%q maps a host id twice: %v", s, m)
				}
			}
		}
	})
}

func text(m idmap.Map) string {
	var parts []string
	for _, e := range m {
		kind := "b"
		if !e.GID {
			kind = "u"
		} else if !e.UID {
			kind = "g"
		}
		parts = append(parts, strings.Join([]string{kind, num(e.Inside), num(e.Host), num(e.Size)}, " "))
	}
	return strings.Join(parts, ", ")
}

func num(n int64) string {
	b, _ := json.Marshal(n)
	return string(b)
}

// sameParts reports whether two maps have the same entries in any order.
func sameParts(a, b string) bool {
	count := map[string]int{}
	for p := range strings.SplitSeq(a, ", ") {
		count[p]++
	}
	for p := range strings.SplitSeq(b, ", ") {
		count[p]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}
