package logs

import (
	"encoding/json"
	"maps"
	"time"
	"unicode/utf8"
)

// appendEntry adds one line of the file to b. tail is what follows the stream's name: the attributes, encoded once.
func appendEntry(b []byte, stream string, line []byte, attrs []byte, t time.Time) []byte {
	b = append(b, `{"log":"`...)
	b = appendEscaped(b, line)
	b = append(b, `","stream":"`...)
	b = append(b, stream...)
	b = append(b, '"')
	b = append(b, attrs...)
	b = append(b, `,"time":"`...)
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, "\"}\n"...)
}

const hex = "0123456789abcdef"

// appendEscaped adds s as the inside of a JSON string. Bytes that are no UTF-8 become U+FFFD.
func appendEscaped(b, s []byte) []byte {
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[start:i]...)
			b = append(b, "\ufffd"...)
			i++
			start = i
			continue
		}
		i += size
	}
	return append(b, s[start:]...)
}

// encodeAttrs gives the attributes as they stand in each line, "" when there are none.
func encodeAttrs(attrs map[string]string) []byte {
	if len(attrs) == 0 {
		return nil
	}
	b, err := json.Marshal(attrs)
	if err != nil {
		return nil // a map of strings always encodes
	}
	return append([]byte(`,"attrs":`), b...)
}

// markAttrs encodes attributes with one more.
func markAttrs(attrs map[string]string, mark [2]string) []byte {
	marked := map[string]string{}
	maps.Copy(marked, attrs)
	marked[mark[0]] = mark[1]
	return encodeAttrs(marked)
}
