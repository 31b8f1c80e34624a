package load

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkLoadOf500Services(b *testing.B) {
	var content strings.Builder
	content.WriteString("name: bench\nservices:\n")
	for i := range 500 {
		fmt.Fprintf(&content, "  s%d: {image: tiny, command: [/busybox, sleep, infinity], init: false, stop_grace_period: 0s}\n", i)
	}
	dir := files{"compose.yaml": content.String()}.write(b)
	for b.Loop() {
		if _, err := Load(b.Context(), Options{WorkingDir: dir}); err != nil {
			b.Fatal(err)
		}
	}
}
