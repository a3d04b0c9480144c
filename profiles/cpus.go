package profiles

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
)

const maxCPU = 8191 // As many as the kernel can be built for.

// ParseCPUs reads a set of processors such as "0-2,5" and returns it in
// order.
func ParseCPUs(s string) ([]int, error) {
	var all []int
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := cpu(from)
		last := first
		if isRange && err == nil {
			last, err = cpu(to)
		}
		if err != nil || last < first {
			return nil, errs.Invalidf(`got %q, want a set of processors such as "0-2,5"`, s)
		}
		for n := first; n <= last; n++ {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// FormatCPUs writes a set of processors, "0-2,5". Its argument is in order.
func FormatCPUs(all []int) string {
	var parts []string
	for i := 0; i < len(all); {
		j := i
		for j+1 < len(all) && all[j+1] == all[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(all[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", all[i], all[j]))
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// ChooseCPUs returns count of the online processors: those to which the
// fewest instances are bound, which load counts. It returns all of them where
// there are no more.
func ChooseCPUs(online []int, load map[int]int, count int) []int {
	all := slices.Clone(online)
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(load[a], load[b]) })
	all = all[:min(count, len(all))]
	slices.Sort(all)
	return all
}

// parseCPULimit reads limits.cpu: a count, or a set, which has a dash or a
// comma.
func parseCPULimit(v string) (count int, set []int, err error) {
	if strings.ContainsAny(v, "-,") {
		set, err = ParseCPUs(v)
		return 0, set, err
	}
	count, err = cpu(v)
	if err == nil && count == 0 {
		err = errNo
	}
	return count, nil, err
}

func checkCPU(v string) error {
	_, _, err := parseCPULimit(v)
	if err != nil {
		return errNo
	}
	return nil
}

func cpu(v string) (int, error) {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil || n > maxCPU {
		return 0, errNo
	}
	return int(n), nil
}
