package seccomp

// compare checks one condition: it goes on behind its last instruction when that holds, else fail instructions further.
// An argument is two words, of which 32-bit architectures have the lower one only.
func compare(c ScmpCondition, wide bool, fail uint8) []Instruction {
	low := offArgs + 8*uint32(c.Argument) // the supported architectures are little-endian
	high := low + 4
	lo, hi := uint32(c.Operand1), uint32(c.Operand1>>32)
	if c.Op == CompareMaskedEqual {
		return compareMasked(c, wide, fail, low)
	}
	var last Instruction
	switch c.Op {
	case CompareEqual:
		last = Instruction{Code: opJEQ, K: lo, JF: fail}
	case CompareNotEqual:
		last = Instruction{Code: opJEQ, K: lo, JT: fail}
	case CompareGreater:
		last = Instruction{Code: opJGT, K: lo, JF: fail}
	case CompareGreaterEqual:
		last = Instruction{Code: opJGE, K: lo, JF: fail}
	case CompareLess:
		last = Instruction{Code: opJGE, K: lo, JT: fail}
	case CompareLessOrEqual:
		last = Instruction{Code: opJGT, K: lo, JT: fail}
	}
	if !wide {
		return []Instruction{load(low), last}
	}
	switch c.Op {
	case CompareEqual:
		return []Instruction{load(high), {Code: opJEQ, K: hi, JF: fail + 2}, load(low), last}
	case CompareNotEqual:
		return []Instruction{load(high), {Code: opJEQ, K: hi, JF: 2}, load(low), last}
	case CompareGreater, CompareGreaterEqual:
		return []Instruction{load(high), {Code: opJGT, K: hi, JT: 3}, {Code: opJEQ, K: hi, JF: fail + 2}, load(low), last}
	default: // less
		return []Instruction{load(high), {Code: opJGT, K: hi, JT: fail + 3}, {Code: opJEQ, K: hi, JF: 2}, load(low), last}
	}
}

// compareMasked checks that the argument has the value of Operand2 where Operand1 has ones.
func compareMasked(c ScmpCondition, wide bool, fail uint8, low uint32) []Instruction {
	value := c.Operand2 & c.Operand1
	code := []Instruction{
		load(low), {Code: opAnd, K: uint32(c.Operand1)}, {Code: opJEQ, K: uint32(value), JF: fail},
	}
	if !wide || c.Operand1>>32 == 0 {
		return code
	}
	return append([]Instruction{
		load(low + 4), {Code: opAnd, K: uint32(c.Operand1 >> 32)}, {Code: opJEQ, K: uint32(value >> 32), JF: fail + 3},
	}, code...)
}
