package seccomp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// VersionError tells that the kernel or this package lacks a feature.
type VersionError struct {
	Message string
	Minimum string
}

func (e *VersionError) Error() string { return e.Message + ": needs " + e.Minimum }

// Errors of this package.
var (
	ErrSyscallDoesNotExist = errors.New("could not resolve syscall name")
	errArch                = errors.New("architecture is not supported")
)

// ScmpArch is an architecture.
type ScmpArch uint

// Architectures. Only x86, x86-64, x32, arm and arm64 can be compiled for.
const (
	ArchInvalid ScmpArch = iota
	ArchNative
	ArchX86
	ArchAMD64
	ArchX32
	ArchARM
	ArchARM64
	ArchMIPS
	ArchMIPS64
	ArchMIPS64N32
	ArchMIPSEL
	ArchMIPSEL64
	ArchMIPSEL64N32
	ArchPPC
	ArchPPC64
	ArchPPC64LE
	ArchS390
	ArchS390X
	ArchPARISC
	ArchPARISC64
	ArchRISCV64
	ArchLOONGARCH64
)

var archNames = map[string]ScmpArch{
	"x86": ArchX86, "amd64": ArchAMD64, "x32": ArchX32, "arm": ArchARM, "arm64": ArchARM64, "aarch64": ArchARM64,
	"mips": ArchMIPS, "mips64": ArchMIPS64, "mips64n32": ArchMIPS64N32,
	"mipsel": ArchMIPSEL, "mipsel64": ArchMIPSEL64, "mipsel64n32": ArchMIPSEL64N32,
	"ppc": ArchPPC, "ppc64": ArchPPC64, "ppc64le": ArchPPC64LE, "s390": ArchS390, "s390x": ArchS390X,
	"parisc": ArchPARISC, "parisc64": ArchPARISC64, "riscv64": ArchRISCV64, "loongarch64": ArchLOONGARCH64,
}

func (a ScmpArch) String() string {
	for name, arch := range archNames {
		if arch == a && name != "aarch64" {
			return name
		}
	}
	return fmt.Sprintf("architecture %d", uint(a))
}

// GetArchFromString resolves a name such as "amd64".
func GetArchFromString(name string) (ScmpArch, error) {
	if a, ok := archNames[name]; ok {
		return a, nil
	}
	return ArchInvalid, fmt.Errorf("%q: %w", name, errArch)
}

// GetNativeArch is that of this program.
func GetNativeArch() (ScmpArch, error) {
	switch runtime.GOARCH {
	case "amd64":
		return ArchAMD64, nil
	case "386":
		return ArchX86, nil
	case "arm64":
		return ArchARM64, nil
	case "arm":
		return ArchARM, nil
	}
	return ArchInvalid, fmt.Errorf("%s: %w", runtime.GOARCH, errArch)
}

// ScmpAction is what becomes of a call; for ActErrno and ActTrace with a code in its upper half.
type ScmpAction uint32

// Actions.
const (
	ActInvalid ScmpAction = iota
	ActKillThread
	ActTrap
	ActNotify
	ActErrno
	ActTrace
	ActAllow
	ActLog
	ActKillProcess
	ActKill = ActKillThread
)

// SetReturnCode gives ActErrno and ActTrace their code; others stay as they are.
func (a ScmpAction) SetReturnCode(code int16) ScmpAction {
	if kind := a & 0xffff; kind == ActErrno || kind == ActTrace {
		return kind | ScmpAction(uint16(code))<<16
	}
	return a
}

// GetReturnCode is the code of ActErrno and ActTrace.
func (a ScmpAction) GetReturnCode() int16 { return int16(a >> 16) }

// The kernel's return values of filters, from linux/seccomp.h.
var returns = map[ScmpAction]uint32{
	ActKillProcess: 0x80000000, ActKillThread: 0, ActTrap: 0x00030000, ActErrno: 0x00050000,
	ActNotify: 0x7fc00000, ActTrace: 0x7ff00000, ActLog: 0x7ffc0000, ActAllow: 0x7fff0000,
}

// native is the return value of a filter for the action.
func (a ScmpAction) native() (uint32, error) {
	value, ok := returns[a&0xffff]
	if !ok {
		return 0, fmt.Errorf("action %#x is invalid", uint32(a))
	}
	return value | uint32(a>>16), nil
}

// ScmpCompareOp compares an argument of a call.
type ScmpCompareOp uint

// Comparisons. CompareMaskedEqual takes the mask first, then the value.
const (
	CompareInvalid ScmpCompareOp = iota
	CompareNotEqual
	CompareLess
	CompareLessOrEqual
	CompareEqual
	CompareGreaterEqual
	CompareGreater
	CompareMaskedEqual
)

// ScmpCondition is one comparison of a rule.
type ScmpCondition struct {
	Argument           uint
	Op                 ScmpCompareOp
	Operand1, Operand2 uint64
}

// MakeCondition checks and makes a comparison.
func MakeCondition(arg uint, op ScmpCompareOp, values ...uint64) (ScmpCondition, error) {
	switch {
	case op <= CompareInvalid || op > CompareMaskedEqual:
		return ScmpCondition{}, fmt.Errorf("comparison %d is invalid", op)
	case arg > 5:
		return ScmpCondition{}, fmt.Errorf("syscalls only have up to 6 arguments (%d given)", arg+1)
	case len(values) == 0 || len(values) > 2:
		return ScmpCondition{}, fmt.Errorf("conditions have one or two values (%d given)", len(values))
	}
	c := ScmpCondition{Argument: arg, Op: op, Operand1: values[0]}
	if len(values) == 2 {
		c.Operand2 = values[1]
	}
	return c, nil
}

// GetLibraryVersion is the version of libseccomp whose behaviour is followed.
func GetLibraryVersion() (major, minor, micro uint) { return 2, 5, 5 }

// GetAPI tells what the running kernel can do, in libseccomp's levels: 3 log, 4 speculation, 6 notification, 7 killable notification.
func GetAPI() (uint, error) { return apiLevel(), nil }

var apiLevel = sync.OnceValue(func() uint {
	level := uint(2)
	for _, l := range []struct {
		level uint
		flag  uintptr
	}{{3, 1 << 1}, {4, 1 << 2}, {6, 1 << 3}, {7, 1<<3 | 1<<5}} {
		// Of a flag the kernel knows, it complains about the missing program instead.
		const setModeFilter = 1
		_, _, errno := syscall.Syscall(seccompCall(), setModeFilter, l.flag, uintptr(unsafe.Pointer(nil)))
		if errno != syscall.EFAULT {
			break
		}
		level = l.level
	}
	return level
})

func seccompCall() uintptr {
	arch, err := GetNativeArch()
	if err != nil {
		return ^uintptr(0)
	}
	n, _ := GetSyscallFromNameByArch("seccomp", arch)
	return uintptr(n)
}

// NewFilter makes a filter for the native architecture.
func NewFilter(fallback ScmpAction) (*ScmpFilter, error) {
	if _, err := fallback.native(); err != nil {
		return nil, err
	}
	native, err := GetNativeArch()
	if err != nil {
		return nil, err
	}
	return &ScmpFilter{fallback: fallback, archs: []ScmpArch{native}, noNewPrivs: true}, nil
}

// ScmpFilter is a set of rules to be compiled.
type ScmpFilter struct {
	fallback   ScmpAction
	archs      []ScmpArch
	rules      []rule
	noNewPrivs bool
	logging    bool
	ssb        bool
	waitKill   bool
}

// AddArch adds an architecture; one that is there already is no error. Rules hold for all of them, added before or after.
func (f *ScmpFilter) AddArch(arch ScmpArch) error {
	if arch == ArchNative {
		return nil
	}
	if _, ok := column(arch); !ok {
		return fmt.Errorf("%s: %w", arch, errArch)
	}
	for _, a := range f.archs {
		if a == arch {
			return nil
		}
	}
	f.archs = append(f.archs, arch)
	return nil
}

// AddRule makes the call end in action.
func (f *ScmpFilter) AddRule(call ScmpSyscall, action ScmpAction) error {
	return f.AddRuleConditional(call, action, nil)
}

// AddRuleConditional makes the call end in action when all conditions hold, each about another argument.
func (f *ScmpFilter) AddRuleConditional(call ScmpSyscall, action ScmpAction, conds []ScmpCondition) error {
	entry, ok := find(call)
	if !ok {
		return ErrSyscallDoesNotExist
	}
	value, err := action.native()
	if err != nil {
		return err
	}
	if action == f.fallback {
		return fmt.Errorf("the action is the default one: %w", os.ErrInvalid)
	}
	f.rules = append(f.rules, rule{entry: entry, conds: conds, value: value})
	return nil
}

// SetOptimize is accepted: programs are always searched by halves.
func (f *ScmpFilter) SetOptimize(int) error { return nil }

// SetNoNewPrivsBit is for the loader of the filter.
func (f *ScmpFilter) SetNoNewPrivsBit(on bool) error { f.noNewPrivs = on; return nil }

// GetNoNewPrivsBit returns what SetNoNewPrivsBit was told.
func (f *ScmpFilter) GetNoNewPrivsBit() (bool, error) { return f.noNewPrivs, nil }

func (f *ScmpFilter) setFlag(flag *bool, on bool, level uint, name string) error {
	if on && apiLevel() < level {
		return &VersionError{Message: "seccomp " + name + " is not available", Minimum: fmt.Sprintf("API level %d", level)}
	}
	*flag = on
	return nil
}

// SetLogBit asks the kernel to log the actions that it can.
func (f *ScmpFilter) SetLogBit(on bool) error { return f.setFlag(&f.logging, on, 3, "log") }

// GetLogBit returns what SetLogBit was told.
func (f *ScmpFilter) GetLogBit() (bool, error) { return f.logging, nil }

// SetSSB leaves speculative store bypass on.
func (f *ScmpFilter) SetSSB(on bool) error { return f.setFlag(&f.ssb, on, 4, "speculation") }

// GetSSB returns what SetSSB was told.
func (f *ScmpFilter) GetSSB() (bool, error) { return f.ssb, nil }

// SetWaitKill makes notified calls interruptible by fatal signals only.
func (f *ScmpFilter) SetWaitKill(on bool) error { return f.setFlag(&f.waitKill, on, 7, "wait-kill") }

// GetWaitKill returns what SetWaitKill was told.
func (f *ScmpFilter) GetWaitKill() (bool, error) { return f.waitKill, nil }

// ExportBPF writes the program as the kernel takes it, in the host's byte order.
func (f *ScmpFilter) ExportBPF(file *os.File) error {
	program, err := f.Compile()
	if err != nil {
		return err
	}
	_, err = file.Write(encode(program))
	return err
}
