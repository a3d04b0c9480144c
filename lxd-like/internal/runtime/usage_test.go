package runtime_test

import (
	"testing"

	"github.com/cuib/cuib/lxd-like/internal/runtime"
)

func TestParseIO(t *testing.T) {
	for in, want := range map[string][2]int64{
		"": {},
		"8:0 Read 4096\n8:0 Write 100\n8:0 Sync 1\n7:1 Read 4\n7:1 Write 1\nTotal 5000\n":                 {4100, 101},
		"8:0 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2\n": {1459201, 314773506},
		"8:0 \n": {},
	} {
		if read, written := runtime.ParseIO(in); [2]int64{read, written} != want {
			t.Errorf("%q: got %d, %d, want %v", in, read, written, want)
		}
	}
}
