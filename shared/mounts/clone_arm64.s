#include "textflag.h"

// func cloneIdle(flags, parent uintptr) (pid uintptr)
TEXT ·cloneIdle(SB), NOSPLIT, $0-24
	MOVD flags+0(FP), R0
	MOVD parent+8(FP), R9
	MOVD $0, R1   // The same stack: the child does not touch it.
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD $220, R8 // clone
	SVC
	CBZ R0, child
	MOVD R0, pid+16(FP)
	RET

child:
	MOVD $1, R0   // prctl(PR_SET_PDEATHSIG, SIGKILL)
	MOVD $9, R1
	MOVD $167, R8
	SVC
	MOVD $173, R8 // getppid
	SVC
	CMP R9, R0
	BNE end

wait:
	MOVD $0, R0   // ppoll of nothing, for ever
	MOVD $0, R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	MOVD $73, R8
	SVC
	JMP wait

end:
	MOVD $0, R0
	MOVD $94, R8  // exit_group
	SVC
	JMP end
