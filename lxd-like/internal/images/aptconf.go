package images

import (
	"context"
	"regexp"
	"strings"

	"github.com/cuib/cuib/shared/run"
)

// hostOptions are the options of the host's apt that a build has to share to
// reach the same mirrors: each a line of apt.conf.
type hostOptions struct {
	host  []string // For the build.
	image []string // Those that the image needs too to reach the mirror.
}

var (
	aptOption = regexp.MustCompile(`^Acquire::(Check-Valid-Until|Check-Date|Retries|ForceIPv[46]|https?::(Proxy|Timeout)\S*) "(.*)";$`)
	password  = regexp.MustCompile(`//[^/]*@`)
)

// aptOptions asks the host's apt for its options.
func aptOptions(ctx context.Context) (hostOptions, error) {
	if err := run.Look("apt-config", "apt"); err != nil {
		return hostOptions{}, err
	}
	lines, err := run.Lines(ctx, "apt-config", "dump", "--no-empty")
	if err != nil {
		return hostOptions{}, err
	}
	return pickOptions(lines), nil
}

// pickOptions picks what a build needs from the output of apt-config dump.
// What names a password stays out of the image.
func pickOptions(lines []string) (out hostOptions) {
	for _, line := range lines {
		m := aptOption.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		out.host = append(out.host, line+"\n")
		if strings.HasPrefix(m[1], "Check-") || strings.Contains(m[1], "Proxy") && !password.MatchString(m[3]) {
			out.image = append(out.image, line+"\n")
		}
	}
	return out
}
