package seccomp

import "sync"

// ScmpSyscall is the number of a system call on the native architecture, or a negative one that stands for a call which only
// others have.
type ScmpSyscall int32

// call is one line of the table.
type call struct {
	name    string
	numbers [5]int32
}

// x32Bit marks a call as one of x32.
const x32Bit = 1 << 30

// pseudo numbers go down from here by the line of the table.
const pseudo = -10000

// column is the place of an architecture in the table.
func column(arch ScmpArch) (int, bool) {
	switch arch {
	case ArchAMD64:
		return 0, true
	case ArchX86:
		return 1, true
	case ArchX32:
		return 2, true
	case ArchARM64:
		return 3, true
	case ArchARM:
		return 4, true
	}
	return 0, false
}

// byName finds lines of the table. It is made at the first use: most programs with this package never ask.
var byName = sync.OnceValue(func() map[string]int {
	m := make(map[string]int, len(table))
	for i := range table {
		m[table[i].name] = i
	}
	return m
})

// number is that of the call on an architecture; false where it has none.
func (c *call) number(arch ScmpArch) (uint32, bool) {
	i, ok := column(arch)
	if !ok || c.numbers[i] < 0 {
		return 0, false
	}
	n := uint32(c.numbers[i])
	if arch == ArchX32 {
		n |= x32Bit
	}
	return n, true
}

// GetSyscallFromName resolves a name on the native architecture.
func GetSyscallFromName(name string) (ScmpSyscall, error) {
	native, err := GetNativeArch()
	if err != nil {
		return 0, err
	}
	return GetSyscallFromNameByArch(name, native)
}

// GetSyscallFromNameByArch resolves a name; the number is negative where the architecture lacks the call.
func GetSyscallFromNameByArch(name string, arch ScmpArch) (ScmpSyscall, error) {
	i, ok := byName()[name]
	if !ok {
		return 0, ErrSyscallDoesNotExist
	}
	if n, ok := table[i].number(arch); ok {
		return ScmpSyscall(n), nil
	}
	return ScmpSyscall(pseudo - i), nil
}

// byNumber finds lines of the table by their number on the native architecture.
var byNumber = sync.OnceValue(func() map[ScmpSyscall]int {
	m := make(map[ScmpSyscall]int, len(table))
	native, err := GetNativeArch()
	if err != nil {
		return m
	}
	for i := range table {
		if n, ok := table[i].number(native); ok {
			m[ScmpSyscall(n)] = i
		}
	}
	return m
})

// find returns the line of a number that was resolved natively.
func find(n ScmpSyscall) (*call, bool) {
	if n <= pseudo && int(pseudo-n) < len(table) {
		return &table[pseudo-n], true
	}
	i, ok := byNumber()[n]
	if !ok {
		return nil, false
	}
	return &table[i], true
}

// The calls that x86 also reaches through socketcall(2) and ipc(2), by the number that is the first argument of those; from
// linux/net.h and linux/ipc.h.
var (
	socketCalls = map[string]uint64{
		"socket": 1, "bind": 2, "connect": 3, "listen": 4, "accept": 5, "getsockname": 6, "getpeername": 7, "socketpair": 8,
		"send": 9, "recv": 10, "sendto": 11, "recvfrom": 12, "shutdown": 13, "setsockopt": 14, "getsockopt": 15,
		"sendmsg": 16, "recvmsg": 17, "accept4": 18, "recvmmsg": 19, "sendmmsg": 20,
	}
	ipcCalls = map[string]uint64{
		"semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12, "msgget": 13, "msgctl": 14,
		"shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
	}
)
