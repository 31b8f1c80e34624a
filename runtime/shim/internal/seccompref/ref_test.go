//go:build seccomp

package seccompref_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	profile "github.com/containerd/containerd/v2/contrib/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	ours "github.com/seccomp/libseccomp-golang"
	"golang.org/x/net/bpf"

	"github.com/stack-run/stack/runtime/shim/internal/seccompref"
)

// arch is one architecture in the three ways of naming it.
type arch struct {
	name  string
	ref   uint32 // SCMP_ARCH_*
	audit uint32
	ours  ours.ScmpArch
	wide  bool
}

var archs = map[string][]arch{
	"amd64": {
		{"amd64", 0xc000003e, 0xc000003e, ours.ArchAMD64, true},
		{"x86", 0x40000003, 0x40000003, ours.ArchX86, false},
		{"x32", 0x4000003e, 0xc000003e, ours.ArchX32, false},
	},
	"arm64": {
		{"arm64", 0xc00000b7, 0xc00000b7, ours.ArchARM64, true},
		{"arm", 0x40000028, 0x40000028, ours.ArchARM, false},
	},
}

// actions in both numberings.
var actions = map[specs.LinuxSeccompAction]struct {
	ref  uint32
	ours ours.ScmpAction
}{
	specs.ActAllow: {0x7fff0000, ours.ActAllow},
	specs.ActErrno: {0x00050001, ours.ActErrno.SetReturnCode(1)},
	specs.ActTrap:  {0x00030000, ours.ActTrap},
	specs.ActLog:   {0x7ffc0000, ours.ActLog},
	specs.ActKill:  {0x00000000, ours.ActKillThread},
}

var compares = map[specs.LinuxSeccompOperator]uint{
	specs.OpNotEqual: 1, specs.OpLessThan: 2, specs.OpLessEqual: 3, specs.OpEqualTo: 4,
	specs.OpGreaterEqual: 5, specs.OpGreaterThan: 6, specs.OpMaskedEqual: 7,
}

// action finds both numbers of an action; code is an errno, if it has one.
func action(a specs.LinuxSeccompAction, code *uint) (ref uint32, own ours.ScmpAction) {
	x := actions[a]
	if code != nil {
		return x.ref&0xffff0000 | uint32(*code), x.ours.SetReturnCode(int16(*code))
	}
	return x.ref, x.ours
}

// compileBoth gives the two programs for one profile, as runc would make them.
func compileBoth(t testing.TB, p *specs.LinuxSeccomp, on []arch) (ref, own *bpf.VM) {
	t.Helper()
	fallbackRef, fallbackOwn := action(p.DefaultAction, p.DefaultErrnoRet)
	filter, err := ours.NewFilter(fallbackOwn)
	if err != nil {
		t.Fatal(err)
	}
	var refArchs []uint32
	for _, a := range on {
		refArchs = append(refArchs, a.ref)
		if err := filter.AddArch(a.ours); err != nil {
			t.Fatal(err)
		}
	}
	var rules []seccompref.Rule
	for _, call := range p.Syscalls {
		for _, name := range call.Names {
			if _, err := seccompref.Number(name, 0); err != nil {
				continue // newer than the C library
			}
			number, err := ours.GetSyscallFromName(name)
			if err != nil {
				continue // nowhere on our architectures
			}
			a, b := action(call.Action, call.ErrnoRet)
			if b == fallbackOwn {
				continue
			}
			rule := seccompref.Rule{Name: name, Action: a}
			var conds []ours.ScmpCondition
			for _, arg := range call.Args {
				rule.Args = append(rule.Args, seccompref.Arg{Index: arg.Index, Op: compares[arg.Op], A: arg.Value, B: arg.ValueTwo})
				c, err := ours.MakeCondition(arg.Index, ours.ScmpCompareOp(compares[arg.Op]), arg.Value, arg.ValueTwo)
				if err != nil {
					t.Fatal(err)
				}
				conds = append(conds, c)
			}
			rules = append(rules, rule)
			if err := filter.AddRuleConditional(number, b, conds); err != nil {
				t.Fatal(err)
			}
		}
	}
	program, err := seccompref.Compile(fallbackRef, refArchs, rules)
	if err != nil {
		t.Fatal(err)
	}
	return machine(t, program), machine(t, export(t, filter))
}

func export(t testing.TB, f *ours.ScmpFilter) []byte {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), "bpf")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := f.ExportBPF(file); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	program, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func machine(t testing.TB, program []byte) *bpf.VM {
	t.Helper()
	var raw []bpf.RawInstruction
	for p := program; len(p) > 0; p = p[8:] {
		raw = append(raw, bpf.RawInstruction{Op: binary.NativeEndian.Uint16(p), Jt: p[2], Jf: p[3], K: binary.NativeEndian.Uint32(p[4:])})
	}
	all, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("the program has instructions that runc does not understand")
	}
	vm, err := bpf.NewVM(all)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// decide runs a program on one call. The machine reads words in network order, so the data is laid out like that.
func decide(t testing.TB, vm *bpf.VM, audit, number uint32, args [6]uint64) uint32 {
	t.Helper()
	data := make([]byte, 64)
	binary.BigEndian.PutUint32(data, number)
	binary.BigEndian.PutUint32(data[4:], audit)
	for i, a := range args {
		binary.BigEndian.PutUint32(data[16+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[20+8*i:], uint32(a>>32))
	}
	value, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(value)
}

// samples are arguments around every value that the profile compares with.
func samples(p *specs.LinuxSeccomp) (all [][6]uint64) {
	all = append(all, [6]uint64{}, [6]uint64{1, 2, 3, 4, 5, 6})
	for _, call := range p.Syscalls {
		for _, arg := range call.Args {
			for _, v := range []uint64{arg.Value, arg.ValueTwo} {
				for _, near := range []uint64{v, v - 1, v + 1, ^v, v | 1<<32, v &^ 0xffffffff, v << 32} {
					var args [6]uint64
					args[arg.Index] = near
					all = append(all, args)
					for i := range args {
						args[i] = near
					}
					all = append(all, args)
				}
			}
		}
	}
	return all
}

// numbers are all that may mean something: every call, its neighbours, and the odd ones.
func numbers() (all []uint32) {
	for n := range uint32(620) {
		all = append(all, n, n|1<<30)
	}
	for n := uint32(0xf0000); n < 0xf0010; n++ {
		all = append(all, n)
	}
	return append(all, 1<<31, 1<<31-1, 0xffffffff, 0xfffffffe, 100000)
}

// conditional are the numbers whose arguments the profile looks at, on any architecture, with those of socketcall and ipc.
func conditional(p *specs.LinuxSeccomp) map[uint32]bool {
	picked := map[uint32]bool{102: true, 117: true}
	for _, call := range p.Syscalls {
		for _, name := range call.Names {
			for _, a := range archs[runtime.GOARCH] {
				if n, err := ours.GetSyscallFromNameByArch(name, a.ours); err == nil && len(call.Args) > 0 {
					picked[uint32(n)] = true
				}
			}
		}
	}
	return picked
}

// same fails the test where the programs differ.
func same(t *testing.T, p *specs.LinuxSeccomp, on []arch) {
	t.Helper()
	ref, own := compileBoth(t, p, on)
	audits := map[uint32]bool{0x12345678: true}
	for _, a := range archs[runtime.GOARCH] {
		audits[a.audit] = true
	}
	all, picked, differ := samples(p), conditional(p), 0
	for audit := range audits {
		for _, n := range numbers() {
			args := all
			if !picked[n] {
				args = all[:2]
			}
			for _, a := range args {
				want, got := decide(t, ref, audit, n, a), decide(t, own, audit, n, a)
				if want != got {
					if differ++; differ < 20 {
						t.Errorf("architecture %#x, call %d (%#x), arguments %#x: %#x, libseccomp %#x", audit, n&^(1<<30), n, a, got, want)
					}
					break
				}
			}
		}
	}
	if differ > 0 {
		t.Errorf("%d calls differ", differ)
	}
}

// archSets are what a profile may be for; the native architecture is always in.
func archSets() map[string][]arch {
	all := archs[runtime.GOARCH]
	sets := map[string][]arch{"native": all[:1], "all": all}
	for i := 1; i < len(all); i++ {
		sets["with "+all[i].name] = []arch{all[0], all[i]}
	}
	return sets
}

func TestTheDefaultProfile(t *testing.T) {
	for _, caps := range [][]string{nil, {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYSLOG", "CAP_BPF"}} {
		spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps}}}
		p := profile.DefaultProfile(spec)
		for name, on := range archSets() {
			t.Run(name, func(t *testing.T) { same(t, p, on) })
		}
	}
}

func TestEveryComparison(t *testing.T) {
	for op := range compares {
		for _, v := range []uint64{0, 1, 7, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffff00000001, 0xffffffffffffffff} {
			p := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{
				Names: []string{"read"}, Action: specs.ActAllow,
				Args: []specs.LinuxSeccompArg{{Index: 3, Op: op, Value: v, ValueTwo: v & 0x00ff00ff00ff00ff}},
			}, {
				Names: []string{"prctl"}, Action: specs.ActTrap,
				Args: []specs.LinuxSeccompArg{{Index: 0, Op: op, Value: v, ValueTwo: v}, {Index: 5, Op: specs.OpNotEqual, Value: 3}},
			}}}
			ref, own := compileBoth(t, p, archSets()["all"])
			for _, a := range archs[runtime.GOARCH] {
				for _, name := range []string{"read", "prctl"} {
					n, err := ours.GetSyscallFromNameByArch(name, a.ours)
					if err != nil {
						t.Fatal(err)
					}
					for _, args := range samples(p) {
						if want, got := decide(t, ref, a.audit, uint32(n), args), decide(t, own, a.audit, uint32(n), args); want != got {
							t.Errorf("%s of %#x on %s, %s(%#x): %#x, libseccomp %#x", op, v, a.name, name, args, got, want)
						}
					}
				}
			}
		}
	}
}

func TestRandomProfiles(t *testing.T) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	var names []string
	for _, call := range profile.DefaultProfile(spec).Syscalls {
		names = append(names, call.Names...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	kinds := []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActTrap, specs.ActLog, specs.ActKill}
	random := rand.New(rand.NewPCG(1, 2))
	for range 10 {
		p := &specs.LinuxSeccomp{DefaultAction: kinds[random.IntN(len(kinds))]}
		random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names[:random.IntN(len(names))] {
			if name == "socketcall" || name == "ipc" {
				continue // contradicts what goes through it
			}
			p.Syscalls = append(p.Syscalls, specs.LinuxSyscall{Names: []string{name}, Action: kinds[random.IntN(len(kinds))]})
		}
		same(t, p, archSets()["all"])
	}
}

// TestNumbers compares the table with libseccomp's, which may be older than the table.
func TestNumbers(t *testing.T) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	for _, call := range profile.DefaultProfile(spec).Syscalls {
		for _, name := range call.Names {
			for _, set := range archs {
				for _, a := range set {
					want, err := seccompref.Number(name, a.ref)
					if err != nil {
						continue
					}
					got, err := ours.GetSyscallFromNameByArch(name, a.ours)
					if err != nil && want < 0 {
						continue
					}
					if a.name == "x86" && want < 0 && want > -1000 {
						continue // made through socketcall or ipc; ours is the direct number
					}
					if err != nil || int(got) != want && (want >= 0 || got >= 0) {
						t.Errorf("%s on %s is %d (%v), libseccomp says %d", name, a.name, got, err, want)
					}
				}
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	p := profile.DefaultProfile(spec)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			_, fallback := action(p.DefaultAction, nil)
			f, err := ours.NewFilter(fallback)
			if err != nil {
				b.Fatal(err)
			}
			for _, a := range archs[runtime.GOARCH] {
				if err := f.AddArch(a.ours); err != nil {
					b.Fatal(err)
				}
			}
			for _, call := range p.Syscalls {
				_, own := action(call.Action, call.ErrnoRet)
				for _, name := range call.Names {
					if n, err := ours.GetSyscallFromName(name); err == nil && own != fallback {
						if err := f.AddRule(n, own); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
			program, err := f.Compile()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(program)), "instructions")
		}
	})
}
