package seccomp

import (
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
	bodies := map[uint32][]Instruction{} // by audit architecture
	var order []uint32
	for _, arch := range f.archs {
		audit := auditArch[arch]
		if arch == ArchX32 {
			continue // together with x86-64
		}
		body := tree(f.ranges(arch), fallback)
		if audit == auditArch[ArchX32] {
			x32 := []Instruction{ret(badArch)}
			if slices.Contains(f.archs, ArchX32) {
				x32 = tree(f.ranges(ArchX32), fallback)
			}
			// -1 is no call of x32: a tracer that skips a call sets it.
			body = branch(opJGE, x32Bit, body, branch(opJEQ, 0xffffffff, x32, []Instruction{ret(fallback)}))
		}
		bodies[audit] = append([]Instruction{load(offNumber)}, body...)
		order = append(order, audit)
	}
	program := []Instruction{ret(badArch)}
	for _, audit := range slices.Backward(order) {
		program = branch(opJEQ, audit, program, bodies[audit])
	}
	program = append([]Instruction{load(offArch)}, program...)
	if len(program) > maxProgram {
		return nil, errors.New("the seccomp profile is too large for the kernel")
	}
	return program, nil
}

// span is what happens to the calls from a number on, up to that of the next span.
type span struct {
	from uint32
	code []Instruction
}

// ranges gives the spans of one architecture that has rules, sorted.
func (f *ScmpFilter) ranges(arch ScmpArch) []span {
	byNumber := map[uint32][]rule{}
	for _, r := range f.rules {
		for _, one := range translate(r, arch) {
			list := byNumber[one.number]
			switch {
			case len(list) == 1 && len(list[0].conds) == 0: // hidden
			case len(one.conds) == 0:
				byNumber[one.number] = []rule{one.rule}
			default:
				byNumber[one.number] = append(list, one.rule)
			}
		}
	}
	fallback, _ := f.fallback.native() // checked by NewFilter
	numbers := make([]uint32, 0, len(byNumber))
	for n := range byNumber {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	spans := []span{{0, []Instruction{ret(fallback)}}}
	next := uint32(0)
	for _, n := range numbers {
		if n != next {
			spans = add(spans, next, []Instruction{ret(fallback)})
		}
		spans = add(spans, n, match(byNumber[n], fallback, wide(arch)))
		next = n + 1
	}
	return add(spans, next, []Instruction{ret(fallback)})
}

// add begins a span, unless it is as the one before.
func add(spans []span, from uint32, code []Instruction) []span {
	last := &spans[len(spans)-1]
	if last.from == from {
		last.code = code
		if len(spans) > 1 && slices.Equal(spans[len(spans)-2].code, code) {
			return spans[:len(spans)-1]
		}
		return spans
	}
	if slices.Equal(last.code, code) {
		return spans
	}
	return append(spans, span{from, code})
}

// numbered is a rule for one number on one architecture.
type numbered struct {
	number uint32
	rule
}

// translate finds the numbers that a rule is about on an architecture: none, one, or on x86 a second one, by which the call is
// made through another.
func translate(r rule, arch ScmpArch) (out []numbered) {
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

// tree searches the span of the loaded number by halves.
func tree(spans []span, fallback uint32) []Instruction {
	switch len(spans) {
	case 0:
		return []Instruction{ret(fallback)}
	case 1:
		return spans[0].code
	}
	half := len(spans) / 2
	return branch(opJGE, spans[half].from, tree(spans[:half], fallback), tree(spans[half:], fallback))
}

// branch goes on with then when the comparison holds, else with other. Both end in a return.
func branch(op uint16, k uint32, other, then []Instruction) []Instruction {
	out := make([]Instruction, 0, len(other)+len(then)+2)
	if len(other) <= 255 {
		out = append(out, Instruction{Code: op, JT: uint8(len(other)), K: k})
	} else {
		out = append(out, Instruction{Code: op, JF: 1, K: k}, Instruction{Code: opJA, K: uint32(len(other))})
	}
	return append(append(out, other...), then...)
}

// match tries the rules of one number in turn.
func match(rules []rule, fallback uint32, wide bool) []Instruction {
	code := []Instruction{ret(fallback)}
	for _, r := range slices.Backward(rules) {
		if len(r.conds) == 0 {
			code = []Instruction{ret(r.value)}
			continue
		}
		one := []Instruction{ret(r.value)}
		for _, c := range slices.Backward(r.conds) {
			one = append(compare(c, wide, uint8(len(one))), one...)
		}
		code = append(one, code...)
	}
	return code
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
