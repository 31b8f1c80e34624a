package ui

import (
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"golang.org/x/term"
)

// IsTerminal tells whether w, or a reader, is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Rows is how many rows of the terminal behind w a line of text without escapes takes.
func Rows(w io.Writer, line string) int {
	width, _ := size(w)
	return max(1, (utf8.RuneCountInString(line)+width-1)/width)
}

// size of the terminal behind w, in characters; what can't be known is taken as 80x24.
func size(w io.Writer) (width, height int) {
	if f, ok := w.(*os.File); ok {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
	}
	return 80, 24
}

// ANSI is the value of --ansi: when colours and cursor movements are used.
type ANSI string

// AutoANSI uses them on terminals, unless NO_COLOR is set.
const (
	AutoANSI   ANSI = "auto"
	NeverANSI  ANSI = "never"
	AlwaysANSI ANSI = "always"
)

// Color tells whether to use colours on w. noColor is the value of NO_COLOR.
func (a ANSI) Color(w io.Writer, noColor string) bool {
	switch a {
	case AlwaysANSI:
		return true
	case NeverANSI:
		return false
	default:
		return noColor == "" && IsTerminal(w)
	}
}

// Colours by their SGR codes.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	bold   = "1"
)

// paint wraps text in a colour, or not.
func paint(on bool, code, text string) string {
	if !on || text == "" {
		return text
	}
	return fmt.Sprintf("\x1b[%sm%s\x1b[0m", code, text)
}
