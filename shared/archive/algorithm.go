package archive

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cuib/cuib/shared/errs"
	"github.com/cuib/cuib/shared/run"
)

// A Compression is how a tar is compressed, with which options. The zero
// value is none.
type Compression struct {
	Format Format

	args  []string // Of the program that does it; empty if it is done here.
	level int      // Of gzip.
}

// An algorithm is a way to compress.
type algorithm struct {
	format  Format
	options *regexp.Regexp // Each option that it can have.
	args    []string       // The program that does it.
	pkg     string         // That the program is in.
}

// algorithms are what users can name. Options are those of the programs that
// have the same names, without the ones that say what to do with which file,
// or that need more to unpack than is there everywhere.
var algorithms = map[string]algorithm{
	"none":  {format: Tar, options: regexp.MustCompile(`^$`)},
	"gzip":  {format: Gzip, options: regexp.MustCompile(`^(-[1-9]|--fast|--best)$`)},
	"pigz":  {format: Gzip, options: regexp.MustCompile(`^(-[1-9]|--fast|--best)$`)},
	"bzip2": {Bzip2, regexp.MustCompile(`^(-[1-9]|--fast|--best)$`), []string{"bzip2", "--compress", "--stdout"}, "bzip2"},
	"xz": {
		Xz, regexp.MustCompile(`^(-[0-9]e?|-e|--extreme|--fast|--best|-T[0-9]{1,3}|--threads=[0-9]{1,3})$`),
		[]string{"xz", "--compress", "--stdout", "--threads=0"},
		"xz-utils",
	},
	"lzma": {
		Lzma, regexp.MustCompile(`^(-[0-9]e?|-e|--extreme|--fast|--best)$`),
		[]string{"xz", "--format=lzma", "--compress", "--stdout"},
		"xz-utils",
	},
	"zstd": {
		Zstd, regexp.MustCompile(`^(-[1-9]|-1[0-9]|-2[0-2]|--ultra|--fast(=[0-9]{1,3})?|--long(=(1[0-9]|2[0-7]))?|--rsyncable|-T[0-9]{1,3}|--threads=[0-9]{1,3})$`),
		[]string{"zstd", "--compress", "--stdout", "--quiet", "-T0"},
		"zstd",
	},
}

// ParseCompression reads what users write: the name of an algorithm, and
// options of its program after it, such as "zstd -19".
func ParseCompression(text string) (Compression, error) {
	name, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	a, ok := algorithms[name]
	if !ok {
		return Compression{}, errs.Invalidf("compression algorithm %q is not known: want one of %s, and options after it, such as \"zstd -19\"",
			name, strings.Join(slices.Sorted(maps.Keys(algorithms)), ", "))
	}
	options := strings.Fields(rest)
	for _, option := range options {
		if !a.options.MatchString(option) {
			return Compression{}, errs.Invalidf("compression algorithm %q: option %q is not one that %s can have", text, option, name)
		}
	}
	c := Compression{Format: a.format}
	if a.format == Gzip {
		c.level = gzipLevel(options)
		return c, nil
	}
	if a.args != nil {
		if err := run.Look(a.args[0], a.pkg); err != nil {
			return Compression{}, err
		}
		c.args = slices.Concat(a.args, options)
	}
	return c, nil
}

func gzipLevel(options []string) int {
	const usual = 6
	level := usual
	for _, option := range options {
		switch option {
		case "--fast":
			level = 1
		case "--best":
			level = 9
		default:
			level, _ = strconv.Atoi(option[1:]) // It was matched.
		}
	}
	return level
}

// Writer returns what compresses to w. It is whole when it is closed without
// an error. What is not to become whole ends by the end of ctx before Close.
func (c Compression) Writer(ctx context.Context, w io.Writer) (io.WriteCloser, error) {
	switch {
	case c.Format == Gzip:
		return newParallelGzip(w, c.level)
	case c.args == nil:
		return plainWriter{w}, nil
	}
	r, in, err := os.Pipe()
	if err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	p := &programWriter{in: in, done: make(chan error, 1)}
	go func() {
		err := run.Program{Args: c.args, Stdin: r, Stdout: w}.Run(ctx)
		r.Close() // Who writes is told by that.
		p.done <- err
	}()
	return p, nil
}

type plainWriter struct{ io.Writer }

func (plainWriter) Close() error { return nil }

// A programWriter writes to a program.
type programWriter struct {
	in   *os.File
	done chan error
}

func (p *programWriter) Write(b []byte) (int, error) { return p.in.Write(b) }

// Close waits for the program.
func (p *programWriter) Close() error {
	err := p.in.Close()
	return errors.Join(<-p.done, err)
}
