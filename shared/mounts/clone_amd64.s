#include "textflag.h"

// func cloneIdle(flags, parent uintptr) (pid uintptr)
TEXT ·cloneIdle(SB), NOSPLIT, $0-24
	MOVQ flags+0(FP), DI
	MOVQ parent+8(FP), R12
	MOVQ $0, SI  // The same stack: the child does not touch it.
	MOVQ $0, DX
	MOVQ $0, R10
	MOVQ $0, R8
	MOVQ $56, AX // clone
	SYSCALL
	TESTQ AX, AX
	JEQ child
	MOVQ AX, pid+16(FP)
	RET

child:
	MOVQ $157, AX // prctl(PR_SET_PDEATHSIG, SIGKILL)
	MOVQ $1, DI
	MOVQ $9, SI
	SYSCALL
	MOVQ $110, AX // getppid
	SYSCALL
	CMPQ AX, R12
	JNE end

wait:
	MOVQ $34, AX // pause
	SYSCALL
	JMP wait

end:
	MOVQ $231, AX // exit_group
	MOVQ $0, DI
	SYSCALL
	JMP end
