package seccomp

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"
)

// The numbers are the kernel's, from arch/*/entry/syscalls/*.tbl.
//
//go:embed calls.txt
var callsText string

// An abi is one of the ways in which programs call the kernel, as a column of
// the table.
type abi int

const (
	amd64 abi = iota
	x32
	i386
	arm64
	arm
	abis
)

// noCall is the number of what an abi does not have.
const noCall = -1

var calls = sync.OnceValue(func() map[string][abis]int {
	all := make(map[string][abis]int)
	for line := range strings.Lines(callsText) {
		fields := strings.Fields(line)
		if len(fields) != 1+int(abis) || fields[0] == "#" {
			continue
		}
		var numbers [abis]int
		for i, text := range fields[1:] {
			n, err := strconv.Atoi(text)
			if err != nil {
				n = noCall
			}
			numbers[i] = n
		}
		all[fields[0]] = numbers
	}
	return all
})
