package runtime_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
	"github.com/cuib/cuib/shared/errs"
)

// Limits of processes reach those that run, but for those that have set lower
// ones themselves, what is executed, and the next boot.
func TestSetRlimits(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	s.Rlimits = map[string]string{"nofile": "500:1000"}
	start(t, r, s)
	p, err := r.Exec(t.Context(), s.Name, runtime.Exec{Args: []string{"sh", "-c", "ulimit -Sn 300; echo $$; cat"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stdin.Close()
	var inside int
	if _, err := fmt.Fscan(p.Stdout, &inside); err != nil {
		t.Fatal(err)
	}
	check := func(soft, own, hard string) {
		t.Helper()
		for pid, want := range map[int]string{1: soft + " " + hard, inside: own + " " + hard} {
			line := sh(t, r, s.Name, fmt.Sprintf("grep 'open files' /proc/%d/limits", pid))
			if got := strings.Join(strings.Fields(line)[3:5], " "); got != want {
				t.Errorf("process %d has %s, want %s", pid, got, want)
			}
		}
		if got := sh(t, r, s.Name, "ulimit -Sn; ulimit -Hn"); got != soft+"\n"+hard {
			t.Errorf("executed: %q", got)
		}
	}
	check("500", "300", "1000")
	if !mayRaise(t) {
		if err := r.SetRlimits(t.Context(), s.Name, map[string]string{"nofile": "700:2000"}); !errs.Is(err, errs.Unsupported) {
			t.Errorf("raised: %v", err)
		}
		s.Rlimits = map[string]string{"nofile": "400:900"}
		if err := r.SetRlimits(t.Context(), s.Name, s.Rlimits); err != nil {
			t.Fatal(err)
		}
		check("400", "300", "900")
		return
	}
	set := func(limits map[string]string) {
		t.Helper()
		if err := r.SetRlimits(t.Context(), s.Name, limits); err != nil {
			t.Fatal(err)
		}
	}
	set(map[string]string{"nofile": "700:2000", "core": "0"})
	check("700", "300", "2000")
	set(map[string]string{"nofile": "200"})
	check("200", "200", "200")
	if err := r.SetRlimits(t.Context(), s.Name, map[string]string{"nofile": "300", "nothing": "1"}); err == nil {
		t.Error("a limit that is not known")
	}
	check("200", "200", "200")
	reboot(t, r, s.Name)
	if got := sh(t, r, s.Name, "grep 'open files' /proc/1/limits"); !strings.Contains(got, "200 ") {
		t.Errorf("after a reboot: %s", got)
	}
	set(nil)
	own, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	if got := sh(t, r, s.Name, "grep core /proc/1/limits"); !strings.Contains(string(own), got) {
		t.Errorf("taken back: %s", got)
	}
}

func TestSetOOMScore(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	s.OOMScore = 100
	start(t, r, s)
	score := func(want string) {
		t.Helper()
		if got := sh(t, r, s.Name, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj"); got != want+"\n"+want {
			t.Errorf("init and a program have %q, want %s", got, want)
		}
	}
	score("100")
	scores := []int{500, -200, 0}
	if !mayRaise(t) {
		scores = []int{300, 500}
		if err := r.SetOOMScore(t.Context(), s.Name, 50); !errs.Is(err, errs.Unsupported) {
			t.Errorf("eased: %v", err)
		}
	}
	sh(t, r, s.Name, "echo 300 >/proc/self/oom_score_adj; sleep 1000 >/dev/null 2>&1 &")
	for _, now := range scores {
		if err := r.SetOOMScore(t.Context(), s.Name, now); err != nil {
			t.Fatal(err)
		}
		score(fmt.Sprint(now))
		if got := sh(t, r, s.Name, "cat /proc/$(ps | grep -v grep | grep 'sleep 1000' | head -n 1 | { read a b; echo $a; })/oom_score_adj"); got != fmt.Sprint(now+200) {
			t.Errorf("a program that has raised its own has %s", got)
		}
	}
}

// mayRaise reports whether the kernel lets this process ease the limits of
// others.
func mayRaise(t *testing.T) bool {
	t.Helper()
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		t.Fatal(err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func TestPressure(t *testing.T) {
	r, s := newRuntime(t), newSpec(t)
	if _, err := os.ReadFile("/proc/pressure/cpu"); err != nil {
		t.Skip("this kernel does not measure pressure")
	}
	start(t, r, s)
	u, err := r.Usage(s.Name)
	if err != nil || len(u.Pressure) != 3 {
		t.Errorf("%+v, %v", u, err)
	}
}
