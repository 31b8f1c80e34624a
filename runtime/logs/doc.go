// Package logs keeps what containers write, and reads it back.
//
// A log is a file of lines, each a JSON object as Docker's json-file driver writes them:
//
//	{"log":"text\n","stream":"stdout","attrs":{"k":"v"},"time":"2026-01-02T03:04:05.000000006Z"}
//
// "log" ends with a newline unless the line goes on in the next entry of that stream: lines longer than MaxLine are cut, as is the
// unfinished last line of a program that ends. Times grow strictly within a log, so that a time names a place in it.
// Rotated files are path.1 (the youngest), path.2, ..., compressed ones path.N.gz.
//
// The Writer lives in the shim, which may be killed at any moment: a line is handed to the kernel by write(2) as soon as
// it is complete, and a torn last line is cut off when the log is opened again.
package logs

import "time"

// MaxLine is the longest text of one entry, in bytes.
const MaxLine = 16 << 10

// Drivers.
const (
	JSONFile = "json-file"
	Local    = "local" // the same format
	None     = "none"
)

// Names of the streams.
const (
	Stdout = "stdout"
	Stderr = "stderr"
)

// Entry is one line of a log, or a part of one.
type Entry struct {
	Time   time.Time
	Stream string
	// Line ends with a newline, unless it is only a part of a line.
	Line  []byte
	Attrs map[string]string
}
