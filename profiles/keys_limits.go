package profiles

func limitKeys() []Key {
	return []Key{
		{Name: "limits.cpu", Type: String, Allowed: `a number of processors, or a set of them such as "0-2,5" or, for one, "3-3"`, Live: true, Doc: "How many processors the instance runs on, which are chosen so that the load is spread, or which ones.", check: checkCPU},
		{Name: "limits.cpu.allowance", Type: String, Default: "100%", Allowed: `a percentage from "1%" to "100%", or a time in each period such as "25ms/100ms"`, Live: true, Doc: "The instance's share of its processors while others want them (percentage), or the time that it may run in each period even when nobody does.", check: parses(parseAllowance)},
		{Name: "limits.memory", Type: String, Allowed: wantMemory, Live: true, Doc: "How much memory the instance may use; a percentage is of the host's.", check: parses(func(v string) (int64, error) { return parseMemory(v, 1<<40) })},
		{Name: "limits.memory.enforce", Type: String, Default: "hard", Allowed: "hard or soft", Live: true, Doc: "Whether the limit of memory holds always (hard), or only while the host is short of it (soft).", check: oneOf("hard", "soft")},
		{Name: "limits.memory.oom_priority", Type: Integer, Default: "0", Allowed: "a whole number from -1000 to 1000", Doc: "Who goes first when the host has no memory left: a higher number goes earlier.", check: between(-1000, 1000)},
		{Name: "limits.memory.swap", Type: String, Default: "true", Allowed: `true, false, or a size such as "512MiB"`, Live: true, Doc: "Whether the instance may be swapped out, or how much of it.", check: is(func(v string) bool {
			_, _, err := parseSwap(v)
			return err == nil
		})},
		{Name: "limits.processes", Type: Integer, Allowed: "a number of processes, at least 1", Live: true, Doc: "How many processes and threads the instance may have.", check: between(1, 1<<62)},
	}
}
