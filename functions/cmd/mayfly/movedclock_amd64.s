//go:build faults

#include "textflag.h"

// moved answers as the kernel's clock_gettime does, with the time of day off. It
// is called as C is: the clock in DI, where the time goes in SI.
TEXT moved<>(SB), NOSPLIT|NOFRAME, $0
	SUBQ $24, SP
	MOVQ DI, 0(SP)
	MOVQ SI, 8(SP)
	MOVQ ·kernel(SB), AX
	CALL AX
	MOVQ 0(SP), DI
	MOVQ 8(SP), SI
	ADDQ $24, SP
	CMPL DI, $0 // CLOCK_REALTIME
	JNE  done
	MOVQ ·off(SB), CX
	ADDQ CX, 0(SI)

done:
	RET

// func movedAt() uintptr
TEXT ·movedAt(SB), NOSPLIT, $0-8
	LEAQ moved<>(SB), AX
	MOVQ AX, ret+0(FP)
	RET
