package profiles

const prefixHugePages = "limits.hugepages."

func limitKeys() []Key {
	const priority = "a whole number from 0 to 10"
	return []Key{
		{Name: "limits.cpu", Type: String, Allowed: `a number of processors, or a set of them such as "0-2,5" or, for one, "3-3"`, Live: true, Doc: "How many processors the instance runs on, which are chosen so that the load is spread, or which ones.", check: checkCPU},
		{Name: "limits.cpu.allowance", Type: String, Default: "100%", Allowed: `a percentage from "1%" to "100%", or a time in each period such as "25ms/100ms"`, Live: true, Doc: "The instance's share of its processors while others want them (percentage), or the time that it may run in each period even when nobody does.", check: parses(parseAllowance)},
		{Name: "limits.cpu.nodes", Type: String, Allowed: `NUMA nodes such as "0" or "0-1,3", or balanced`, Live: true, Doc: "The NUMA nodes whose processors and memory the instance has, or that it gets one on which there is the least.", check: checkNodes},
		{Name: "limits.cpu.priority", Type: Integer, Default: "10", Allowed: priority, Live: true, Doc: "Of instances with the same share of busy processors, those with a higher number get a little more.", check: between(0, mostPriority)},
		{Name: "limits.disk.priority", Type: Integer, Default: "5", Allowed: priority, Live: true, Doc: "The instance's share of disks while others want them; 10 is twice 5, and 0 a tenth of it.", check: between(0, mostPriority)},
		hugePages("64KB"), hugePages("1MB"), hugePages("2MB"), hugePages("1GB"),
		{Name: "limits.io.latency", Type: String, Allowed: `a time such as "20ms", up to 10s`, Live: true, Doc: "How long requests to the disk that the root is on may take, at the cost of instances that are granted more time, or none.", check: parses(parseLatency)},
		{Name: "limits.io.weight", Type: Integer, Default: "100", Allowed: "a whole number from 1 to 10000", Live: true, Doc: "As limits.disk.priority, in whose place it is, in finer steps: an instance gets as much more of a busy disk as its number is higher.", check: between(1, 10000)},
		{Name: "limits.memory", Type: String, Allowed: wantMemory, Live: true, Doc: "How much memory the instance may use; a percentage is of the host's.", check: parses(memoryOfAny)},
		{Name: "limits.memory.enforce", Type: String, Default: "hard", Allowed: "hard or soft", Live: true, Doc: "Whether the limit of memory holds always (hard), or only while the host is short of it (soft).", check: oneOf("hard", "soft")},
		{Name: "limits.memory.high", Type: String, Allowed: wantMemory, Live: true, Doc: "How much memory the instance may use before the kernel slows it down and takes memory back, without killing anything; a percentage is of the host's.", check: parses(memoryOfAny)},
		{Name: "limits.memory.oom_priority", Type: Integer, Default: "0", Allowed: "a whole number from -1000 to 1000", Live: true, Doc: "Who goes first when the host has no memory left: a higher number goes earlier.", check: between(-1000, 1000)},
		{Name: "limits.memory.swap", Type: String, Default: "true", Allowed: `true, false, or a size such as "512MiB"`, Live: true, Doc: "Whether the instance may be swapped out, or how much of it.", check: is(func(v string) bool {
			_, _, err := parseSwap(v)
			return err == nil
		})},
		{Name: "limits.memory.swap.priority", Type: Integer, Default: "10", Allowed: priority, Live: true, Doc: "Instances with a lower number are swapped out sooner.", check: between(0, mostPriority)},
		{Name: "limits.processes", Type: Integer, Allowed: "a number of processes, at least 1", Live: true, Doc: "How many processes and threads the instance may have.", check: between(1, 1<<62)},
	}
}

// memoryOfAny reads a size or percentage where the host does not matter.
func memoryOfAny(v string) (int64, error) { return parseMemory(v, 1<<40) }

func hugePages(size string) Key {
	return Key{Name: prefixHugePages + size, Type: String, Allowed: wantBytes, Live: true, Doc: "How much memory in huge pages of " + size + " the instance may use.", check: parses(ParseSize)}
}
