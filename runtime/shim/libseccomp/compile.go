package seccomp

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
)

// rule is one rule of a filter, for all architectures.
type rule struct {
	entry *call
	conds []ScmpCondition
	value uint32 // what the filter returns
}

// Offsets in struct seccomp_data.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// maxProgram is the kernel's limit, BPF_MAXINSNS.
const maxProgram = 4096

// auditArch are the kernel's names of architectures, linux/audit.h; x32 shares that of x86-64.
var auditArch = map[ScmpArch]uint32{
	ArchX86: 0x40000003, ArchAMD64: 0xc000003e, ArchX32: 0xc000003e, ArchARM: 0x40000028, ArchARM64: 0xc00000b7,
}

// Compile makes the program. A call of an architecture that is not in the filter kills the thread, as with libseccomp.
func (f *ScmpFilter) Compile() ([]Instruction, error) {
	fallback, err := f.fallback.native()
	if err != nil {
		return nil, err
	}
	badArch, err := ActKillThread.native()
	if err != nil {
		return nil, err
	}
	b := &builder{}
	b.push(ret(badArch))
	for _, arch := range slices.Backward(f.archs) {
		if arch == ArchX32 {
			continue // together with x86-64
		}
		others := len(b.code)
		if arch == ArchAMD64 {
			b.x32(f, fallback, badArch)
		}
		x32 := len(b.code)
		b.tree(f.spans(arch, fallback))
		if arch == ArchAMD64 {
			b.branch(opJGE, x32Bit, len(b.code)-x32)
		}
		b.push(load(offNumber))
		b.unless(auditArch[arch], len(b.code)-others)
	}
	b.push(load(offArch))
	if len(b.code) > maxProgram {
		return nil, errors.New("the seccomp profile is too large for the kernel")
	}
	slices.Reverse(b.code)
	return b.code, nil
}

// span is what happens to the calls from a number on, up to that of the next span: a value, or code that ends in one.
type span struct {
	from  uint32
	value uint32
	code  []Instruction
}

// spans gives the spans of an architecture, sorted and covering every number.
func (f *ScmpFilter) spans(arch ScmpArch, fallback uint32) []span {
	all := make([]numbered, 0, len(f.rules)+32)
	for _, r := range f.rules {
		all = translate(all, r, arch)
	}
	slices.SortStableFunc(all, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	spans := make([]span, 0, len(all)/2+2)
	next := uint32(0)
	for len(all) > 0 {
		n, count := all[0].number, 1
		for count < len(all) && all[count].number == n {
			count++
		}
		if n != next {
			spans = add(spans, span{from: next, value: fallback})
		}
		spans = add(spans, match(n, all[:count], fallback, wide(arch)))
		all, next = all[count:], n+1
	}
	return add(spans, span{from: next, value: fallback})
}

// add begins a span, unless it is as the one before.
func add(spans []span, s span) []span {
	if n := len(spans); n > 0 && spans[n-1].code == nil && s.code == nil && spans[n-1].value == s.value {
		return spans
	}
	return append(spans, s)
}

// numbered is a rule for one number on one architecture.
type numbered struct {
	number uint32
	rule
}

// translate adds the numbers that a rule is about on an architecture: none, one, or on x86 a second one, by which the call is
// made through another.
func translate(out []numbered, r rule, arch ScmpArch) []numbered {
	if n, ok := r.entry.number(arch); ok {
		out = append(out, numbered{n, r})
	}
	if arch != ArchX86 {
		return out
	}
	const x86Socketcall, x86IPC = 102, 117
	if sub, ok := socketCalls[r.entry.name]; ok {
		out = append(out, numbered{x86Socketcall, through(r, sub)})
	}
	if sub, ok := ipcCalls[r.entry.name]; ok {
		out = append(out, numbered{x86IPC, through(r, sub)})
	}
	return out
}

// through is the rule for a call made through another, whose first argument says which. The call's own arguments are in memory,
// where a filter can't look.
func through(r rule, sub uint64) rule {
	r.conds = []ScmpCondition{{Argument: 0, Op: CompareEqual, Operand1: sub}}
	return r
}

// wide tells whether arguments have 64 bits.
func wide(arch ScmpArch) bool { return arch == ArchAMD64 || arch == ArchARM64 }

// match is what the rules of one number do, tried in turn. The first one without conditions replaces those before it and hides
// those after it.
func match(number uint32, rules []numbered, fallback uint32, wide bool) span {
	var code []Instruction
	for _, r := range rules {
		if len(r.conds) == 0 {
			return span{from: number, value: r.value}
		}
		one := []Instruction{ret(r.value)}
		for _, c := range slices.Backward(r.conds) {
			one = append(compare(c, wide, uint8(len(one))), one...)
		}
		code = append(code, one...)
	}
	return span{from: number, code: append(code, ret(fallback))}
}

// builder makes a program from its end, since a jump needs the length of what it jumps over: code is in reverse order.
type builder struct{ code []Instruction }

func (b *builder) push(code ...Instruction) {
	for _, i := range slices.Backward(code) {
		b.code = append(b.code, i)
	}
}

// branch compares: if it holds, it jumps over the n instructions pushed last.
func (b *builder) branch(op uint16, k uint32, n int) {
	if n <= 255 {
		b.push(Instruction{Code: op, JT: uint8(n), K: k})
		return
	}
	b.push(Instruction{Code: op, JF: 1, K: k}, Instruction{Code: opJA, K: uint32(n)})
}

// unless compares for equality: if that does not hold, it jumps over the n instructions pushed last.
func (b *builder) unless(k uint32, n int) {
	if n <= 255 {
		b.push(Instruction{Code: opJEQ, JF: uint8(n), K: k})
		return
	}
	b.push(Instruction{Code: opJEQ, JT: 1, K: k}, Instruction{Code: opJA, K: uint32(n)})
}

// x32 decides about the calls with x32's bit: as if they were of another architecture, unless the filter has x32. -1 is no call
// of x32; a tracer that skips a call sets it.
func (b *builder) x32(f *ScmpFilter, fallback, badArch uint32) {
	if slices.Contains(f.archs, ArchX32) {
		b.tree(f.spans(ArchX32, fallback))
	} else {
		b.push(ret(badArch))
	}
	b.push(ret(fallback))
	b.unless(0xffffffff, 1)
}

// tree searches the span of the loaded number by halves.
func (b *builder) tree(spans []span) {
	if len(spans) == 1 {
		if s := spans[0]; s.code != nil {
			b.push(s.code...)
		} else {
			b.push(ret(s.value))
		}
		return
	}
	half := len(spans) / 2
	b.tree(spans[half:])
	upper := len(b.code)
	b.tree(spans[:half])
	b.branch(opJGE, spans[half].from, len(b.code)-upper)
}

// Instruction is a struct sock_filter.
type Instruction struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

// Operations of classic BPF, linux/bpf_common.h.
const (
	opLoad = 0x20 // ld [k]
	opJA   = 0x05
	opJEQ  = 0x15
	opJGT  = 0x25
	opJGE  = 0x35
	opAnd  = 0x54
	opRet  = 0x06
)

func load(offset uint32) Instruction { return Instruction{Code: opLoad, K: offset} }
func ret(value uint32) Instruction   { return Instruction{Code: opRet, K: value} }

// encode writes instructions as the kernel has them in memory.
func encode(program []Instruction) []byte {
	out := make([]byte, 0, 8*len(program))
	for _, i := range program {
		out = binary.NativeEndian.AppendUint16(out, i.Code)
		out = append(out, i.JT, i.JF)
		out = binary.NativeEndian.AppendUint32(out, i.K)
	}
	return out
}
