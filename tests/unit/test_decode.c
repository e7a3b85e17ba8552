/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/emu/decode/insn.h"
#include "core/util.h"
#include "cpu/state.h"

enum { M16 = EMU_MODE_16, M32 = EMU_MODE_32, M64 = EMU_MODE_64 };

static unsigned parse(const char *hex, uint8_t *bytes)
{
	unsigned n = 0;

	for (; *hex; hex++) {
		unsigned value;

		if (isspace((unsigned char)*hex))
			continue;
		ck_assert_int_eq(sscanf(hex, "%2x", &value), 1);
		bytes[n++] = (uint8_t)value;
		hex++;
	}
	return n;
}

static int decode_in(const char *hex, unsigned mode, bool protected_mode, const struct vc_feature_set *features,
                     struct emu_insn *insn)
{
	const struct emu_decode_mode m = {.mode = (uint8_t)mode, .protected_mode = protected_mode, .features = features};
	uint8_t bytes[64];
	unsigned length = parse(hex, bytes);

	return emu_decode(bytes, length, &m, insn);
}

/* A whole instruction, nothing less and nothing more. */
static struct emu_insn decode(unsigned mode, const char *hex)
{
	struct emu_insn insn;
	uint8_t bytes[64];

	ck_assert_msg(decode_in(hex, mode, true, NULL, &insn) == EMU_DECODE_OK, "%s is not decoded", hex);
	ck_assert_msg(insn.len == parse(hex, bytes), "%s: length %u", hex, insn.len);
	return insn;
}

static void ck_ud(unsigned mode, const char *hex)
{
	struct emu_insn insn;
	int status = decode_in(hex, mode, true, NULL, &insn);

	ck_assert_msg(status == EMU_DECODE_UD, "mode %u, %s: %d instead of #UD", mode, hex, status);
	ck_assert_uint_eq(insn.op, EMU_INVALID);
	ck_assert_ptr_nonnull(insn.desc);
}

/* ---- encodings and their text ---- */

struct text_case {
	uint8_t mode;
	const char *hex, *text; /* text NULL: #UD */
};

static const struct text_case texts[] = {
    /* arithmetic, all six forms, all widths */
    {M64, "00 c8", "add al,cl"},
    {M64, "01 c8", "add eax,ecx"},
    {M64, "48 01 c8", "add rax,rcx"},
    {M64, "66 01 c8", "add ax,cx"},
    {M64, "66 48 01 c8", "add rax,rcx"},
    {M64, "4d 03 0a", "add r9,QWORD PTR [r10]"},
    {M64, "02 25 00 00 00 00", "add ah,BYTE PTR [rip+0x0]"},
    {M64, "04 80", "add al,0x80"},
    {M64, "05 ff ff ff ff", "add eax,0xffffffff"},
    {M64, "48 05 ff ff ff ff", "add rax,0xffffffffffffffff"},
    {M64, "66 05 34 12", "add ax,0x1234"},
    {M64, "0a 04 25 78 56 34 12", "or al,BYTE PTR ds:0x12345678"},
    {M64, "10 c0", "adc al,al"},
    {M64, "1b 18", "sbb ebx,DWORD PTR [rax]"},
    {M64, "21 44 24 08", "and DWORD PTR [rsp+0x8],eax"},
    {M64, "29 6d f8", "sub DWORD PTR [rbp-0x8],ebp"},
    {M64, "31 ff", "xor edi,edi"},
    {M64, "38 44 b3 10", "cmp BYTE PTR [rbx+rsi*4+0x10],al"},
    {M64, "80 c1 7f", "add cl,0x7f"},
    {M64, "81 c1 00 01 00 00", "add ecx,0x100"},
    {M64, "66 81 c1 00 01", "add cx,0x100"},
    {M64, "83 c1 ff", "add ecx,0xffffffff"},
    {M64, "48 83 ec 20", "sub rsp,0x20"},
    {M32, "82 c1 01", "add cl,0x1"},
    {M64, "82 c1 01", NULL},
    {M64, "f0 48 83 28 01", "lock sub QWORD PTR [rax],0x1"},
    {M64, "f6 c1 01", "test cl,0x1"},
    {M64, "f6 c9 01", "test cl,0x1"},
    {M64, "f7 03 01 00 00 00", "test DWORD PTR [rbx],0x1"},
    {M64, "f7 d0", "not eax"},
    {M64, "48 f7 d8", "neg rax"},
    {M64, "f7 e1", "mul ecx"},
    {M64, "f7 e9", "imul ecx"},
    {M64, "f6 f1", "div cl"},
    {M64, "48 f7 f9", "idiv rcx"},
    {M64, "fe c0", "inc al"},
    {M64, "ff c8", "dec eax"},
    {M32, "40", "inc eax"},
    {M32, "4f", "dec edi"},
    {M16, "40", "inc ax"},
    {M16, "66 40", "inc eax"},
    {M64, "0f af c1", "imul eax,ecx"},
    {M64, "69 c1 00 01 00 00", "imul eax,ecx,0x100"},
    {M64, "6b c1 f0", "imul eax,ecx,0xfffffff0"},
    {M64, "fe d0", NULL},
    {M64, "ff f8", NULL},
    /* registers: REX, high bytes */
    {M64, "88 e0", "mov al,ah"},
    {M64, "40 88 e0", "mov al,spl"},
    {M64, "44 88 e0", "mov al,r12b"},
    {M64, "41 88 e0", "mov r8b,spl"},
    {M64, "45 8b c1", "mov r8d,r9d"},
    {M64, "66 45 8b c1", "mov r8w,r9w"},
    /* moves */
    {M64, "b0 12", "mov al,0x12"},
    {M64, "41 b7 12", "mov r15b,0x12"},
    {M64, "b8 78 56 34 12", "mov eax,0x12345678"},
    {M64, "48 b8 ef cd ab 89 67 45 23 01", "mov rax,0x123456789abcdef"},
    {M64, "66 b8 34 12", "mov ax,0x1234"},
    {M64, "48 c7 c0 ff ff ff ff", "mov rax,0xffffffffffffffff"},
    {M64, "c6 00 12", "mov BYTE PTR [rax],0x12"},
    {M64, "c6 f8 00", NULL},
    {M64, "c7 f8 00 00 00 00", NULL},
    {M64, "a0 88 77 66 55 44 33 22 11", "mov al,BYTE PTR ds:0x1122334455667788"},
    {M64, "67 a1 78 56 34 12", "mov eax,DWORD PTR ds:0x12345678"},
    {M64, "64 48 a3 10 00 00 00 00 00 00 00", "mov QWORD PTR fs:0x10,rax"},
    {M32, "a1 78 56 34 12", "mov eax,DWORD PTR ds:0x12345678"},
    {M16, "a1 34 12", "mov ax,WORD PTR ds:0x1234"},
    {M64, "8c d8", "mov eax,ds"},
    {M64, "66 8c d8", "mov ax,ds"},
    {M64, "8c 18", "mov WORD PTR [rax],ds"},
    {M64, "8e d0", "mov ss,eax"},
    {M64, "8e 18", "mov ds,WORD PTR [rax]"},
    {M64, "44 8e d8", "mov ds,eax"},
    {M64, "8e c8", NULL},
    {M64, "8e f0", NULL},
    {M64, "8c f0", NULL},
    {M64, "0f b6 c1", "movzx eax,cl"},
    {M64, "48 0f b7 01", "movzx rax,WORD PTR [rcx]"},
    {M64, "0f be 01", "movsx eax,BYTE PTR [rcx]"},
    {M64, "66 0f bf c1", "movsx ax,cx"},
    {M64, "48 63 c1", "movsxd rax,ecx"},
    {M64, "63 01", "movsxd eax,DWORD PTR [rcx]"},
    {M32, "63 01", "arpl WORD PTR [ecx],ax"},
    {M64, "8d 04 8a", "lea eax,[rdx+rcx*4]"},
    {M64, "48 8d 05 10 00 00 00", "lea rax,[rip+0x10]"},
    {M64, "8d c0", NULL},
    {M64, "87 0a", "xchg DWORD PTR [rdx],ecx"},
    {M64, "f0 86 0a", "lock xchg BYTE PTR [rdx],cl"},
    {M64, "93", "xchg ebx,eax"},
    {M64, "49 90", "xchg r8,rax"},
    {M64, "0f c8", "bswap eax"},
    {M64, "49 0f cf", "bswap r15"},
    {M64, "0f 44 c1", "cmove eax,ecx"},
    {M64, "48 0f 4f 01", "cmovg rax,QWORD PTR [rcx]"},
    {M64, "0f 94 c4", "sete ah"},
    {M64, "0f 9c 00", "setl BYTE PTR [rax]"},
    {M64, "0f 38 f0 01", "movbe eax,DWORD PTR [rcx]"},
    {M64, "66 0f 38 f1 01", "movbe WORD PTR [rcx],ax"},
    {M64, "0f 38 f0 c1", NULL},
    {M64, "0f c3 01", "movnti DWORD PTR [rcx],eax"},
    {M64, "0f c3 c1", NULL},
    {M64, "66 0f c3 01", NULL},
    /* shifts, bits */
    {M64, "d0 e0", "shl al,1"},
    {M64, "d1 f8", "sar eax,1"},
    {M64, "c0 f0 03", "shl al,0x3"},
    {M64, "48 c1 c8 21", "ror rax,0x21"},
    {M64, "d3 d1", "rcl ecx,cl"},
    {M64, "0f a4 c8 05", "shld eax,ecx,0x5"},
    {M64, "0f ad 08", "shrd DWORD PTR [rax],ecx,cl"},
    {M64, "0f a3 08", "bt DWORD PTR [rax],ecx"},
    {M64, "f0 0f ab 08", "lock bts DWORD PTR [rax],ecx"},
    {M64, "f0 0f a3 08", NULL},
    {M64, "0f ba e0 1f", "bt eax,0x1f"},
    {M64, "f0 48 0f ba 38 3f", "lock btc QWORD PTR [rax],0x3f"},
    {M64, "0f ba c0 1f", NULL},
    {M64, "0f bc c1", "bsf eax,ecx"},
    {M64, "f3 0f bc c1", "tzcnt eax,ecx"},
    {M64, "f3 48 0f bd c1", "lzcnt rax,rcx"},
    {M64, "f3 0f b8 c1", "popcnt eax,ecx"},
    {M64, "66 f3 0f b8 c1", "popcnt ax,cx"},
    {M64, "0f b8 c1", NULL},
    {M64, "f2 0f b8 c1", NULL},
    {M64, "f2 0f 38 f0 c1", "crc32 eax,cl"},
    {M64, "f2 48 0f 38 f1 01", "crc32 rax,QWORD PTR [rcx]"},
    {M64, "66 f2 0f 38 f1 c1", "crc32 eax,cx"},
    {M64, "f3 0f 38 f0 01", NULL},
    {M64, "66 0f 38 f6 c1", "adcx eax,ecx"},
    {M64, "f3 48 0f 38 f6 01", "adox rax,QWORD PTR [rcx]"},
    {M64, "0f 38 f6 c1", NULL},
    {M64, "f0 0f b1 0a", "lock cmpxchg DWORD PTR [rdx],ecx"},
    {M64, "f0 0f b1 ca", NULL},
    {M64, "f0 0f c1 0a", "lock xadd DWORD PTR [rdx],ecx"},
    {M64, "0f c7 0f", "cmpxchg8b QWORD PTR [rdi]"},
    {M64, "66 0f c7 0f", "cmpxchg8b QWORD PTR [rdi]"},
    {M64, "f0 48 0f c7 0f", "lock cmpxchg16b XMMWORD PTR [rdi]"},
    {M64, "0f c7 cf", NULL},
    /* VEX integer */
    {M64, "c4 e2 70 f2 c2", "andn eax,ecx,edx"},
    {M64, "c4 e2 f0 f2 02", "andn rax,rcx,QWORD PTR [rdx]"},
    {M64, "c4 e2 74 f2 c2", NULL},
    {M64, "c4 e2 68 f7 c1", "bextr eax,ecx,edx"},
    {M64, "c4 e2 69 f7 c1", "shlx eax,ecx,edx"},
    {M64, "c4 e2 ea f7 c1", "sarx rax,rcx,rdx"},
    {M64, "c4 e2 6b f7 c1", "shrx eax,ecx,edx"},
    {M64, "c4 e2 68 f5 c1", "bzhi eax,ecx,edx"},
    {M64, "c4 e2 6b f5 c1", "pdep eax,edx,ecx"},
    {M64, "c4 e2 ea f5 c1", "pext rax,rdx,rcx"},
    {M64, "c4 e2 6b f6 c1", "mulx eax,edx,ecx"},
    {M64, "c4 e2 68 f6 c1", NULL},
    {M64, "c4 c2 78 f3 cf", "blsr eax,r15d"},
    {M64, "c4 e2 78 f3 d1", "blsmsk eax,ecx"},
    {M64, "c4 e2 f8 f3 19", "blsi rax,QWORD PTR [rcx]"},
    {M64, "c4 e2 78 f3 c1", NULL},
    {M64, "c4 e2 79 f3 c9", NULL},
    {M64, "c4 e3 7b f0 c1 07", "rorx eax,ecx,0x7"},
    {M64, "c4 e3 73 f0 c1 07", NULL},
    {M32, "c4 e2 f0 f2 c2", "andn eax,ecx,edx"},
    {M32, "c4 e2 30 f2 c2", "andn eax,ecx,edx"},
    {M32, "c4 01", "les eax,FWORD PTR [ecx]"},
    {M32, "c5 41 10", "lds eax,FWORD PTR [ecx+0x10]"},
    {M64, "c4 c2 00 f2 c2", "andn eax,r15d,r10d"},
    {M64, "66 c4 e2 70 f2 c2", NULL},
    {M64, "f3 c4 e2 70 f2 c2", NULL},
    {M64, "f2 c4 e2 70 f2 c2", NULL},
    {M64, "f0 c4 e2 70 f2 02", NULL},
    {M64, "48 c4 e2 70 f2 c2", NULL},
    {M64, "67 64 c4 e2 70 f2 02", "andn eax,ecx,DWORD PTR fs:[edx]"},
    {M64, "c4 e4 70 f2 c2", NULL},
    {M64, "c4 e0 70 f2 c2", NULL},
    {M64, "c5 f8 ae 11", "vldmxcsr DWORD PTR [rcx]"},
    {M64, "c5 fc ae 11", NULL},
    {M64, "c5 f0 ae 11", NULL},
    /* control flow */
    {M64, "eb fe", "jmp 0x1000"},
    {M64, "e9 00 01 00 00", "jmp 0x1105"},
    {M64, "66 e9 00 01 00 00", "jmp 0x1106"},
    {M32, "66 e9 00 01", "jmp 0x1104"},
    {M16, "e9 00 f0", "jmp 0x3"},
    {M64, "e8 fb ff ff ff", "call 0x1000"},
    {M64, "74 10", "je 0x1012"},
    {M64, "0f 85 00 00 00 00", "jne 0x1006"},
    {M16, "0f 8f fc ff", "jg 0x1000"},
    {M64, "e3 00", "jrcxz 0x1002"},
    {M64, "67 e3 00", "jecxz 0x1003"},
    {M16, "e3 00", "jcxz 0x1002"},
    {M64, "e2 fe", "loop 0x1000"},
    {M64, "e0 fe", "loopne 0x1000"},
    {M64, "ff d0", "call rax"},
    {M64, "66 ff d0", "call rax"},
    {M64, "41 ff 24 24", "jmp QWORD PTR [r12]"},
    {M32, "ff d0", "call eax"},
    {M32, "66 ff d0", "call ax"},
    {M64, "ff 18", "call FWORD PTR [rax]"},
    {M64, "ff d8", NULL},
    {M64, "ff e8", NULL},
    {M32, "9a 78 56 34 12 08 00", "call 0x8:0x12345678"},
    {M16, "ea 34 12 00 f0", "jmp 0xf000:0x1234"},
    {M64, "ea 78 56 34 12 08 00", NULL},
    {M64, "c3", "ret"},
    {M64, "c2 10 00", "ret 0x10"},
    {M64, "cb", "retf"},
    {M64, "48 cf", "iretq"},
    {M64, "cf", "iret"},
    {M64, "cc", "int3"},
    {M64, "cd 80", "int 0x80"},
    {M64, "ce", NULL},
    {M32, "ce", "into"},
    {M64, "f1", "int1"},
    {M64, "0f 0b", "ud2"},
    {M64, "0f b9 c1", "ud1 eax,ecx"},
    /* stack */
    {M64, "50", "push rax"},
    {M64, "41 57", "push r15"},
    {M64, "66 50", "push ax"},
    {M64, "66 48 50", "push rax"},
    {M64, "6a ff", "push 0xffffffffffffffff"},
    {M64, "68 00 00 00 80", "push 0xffffffff80000000"},
    {M64, "66 68 34 12", "push 0x1234"},
    {M64, "8f 00", "pop QWORD PTR [rax]"},
    {M64, "8f c8", NULL},
    {M64, "8f e8 78 10 c1 00", NULL},
    {M64, "ff 30", "push QWORD PTR [rax]"},
    {M64, "06", NULL},
    {M32, "06", "push es"},
    {M32, "17", "pop ss"},
    {M64, "0f a0", "push fs"},
    {M64, "0f a9", "pop gs"},
    {M32, "60", "pusha"},
    {M16, "60", "pushaw"},
    {M64, "60", NULL},
    {M64, "c8 10 00 01", "enter 0x10,0x1"},
    {M64, "c9", "leave"},
    {M64, "9c", "pushf"},
    /* strings and others of one byte */
    {M64, "f3 a4", "rep movsb"},
    {M64, "f3 48 a5", "rep movsq"},
    {M64, "a5", "movsd"},
    {M64, "66 a5", "movsw"},
    {M64, "f3 a6", "repz cmpsb"},
    {M64, "f2 ae", "repnz scasb"},
    {M64, "48 ab", "stosq"},
    {M64, "ac", "lodsb"},
    {M64, "6c", "insb"},
    {M64, "48 6f", "outsd"},
    {M64, "98", "cwde"},
    {M64, "48 98", "cdqe"},
    {M64, "66 99", "cwd"},
    {M64, "48 99", "cqo"},
    {M64, "d7", "xlat"},
    {M64, "9b", "fwait"},
    {M64, "e4 10", "in al,0x10"},
    {M64, "ed", "in eax,dx"},
    {M64, "66 48 ed", "in eax,dx"},
    {M64, "66 ef", "out dx,ax"},
    {M64, "e6 80", "out 0x80,al"},
    {M32, "27", "daa"},
    {M64, "27", NULL},
    {M32, "d4 0a", "aam 0xa"},
    {M64, "d4 0a", NULL},
    {M32, "d6", "salc"},
    {M64, "d6", NULL},
    {M32, "62 01", "bound eax,[ecx]"},
    {M32, "62 c1", NULL},
    {M64, "62 01", NULL},
    /* NOPs and hints */
    {M64, "90", "nop"},
    {M64, "66 90", "nop"},
    {M64, "f3 90", "pause"},
    {M64, "f3 0f 1e fa", "nop edx"},
    {M64, "0f 1f 44 00 00", "nop DWORD PTR [rax+rax*1+0x0]"},
    {M64, "0f 18 08", "prefetcht0 BYTE PTR [rax]"},
    {M64, "0f 18 c8", "nop eax"},
    {M64, "0f 0d 08", "prefetchw BYTE PTR [rax]"},
    {M64, "0f 0d c8", "nop eax"},
    {M64, "0f 1a 00", "nop DWORD PTR [rax]"},
    {M64, "f0 90", NULL},
    /* system */
    {M64, "0f 20 c0", "mov rax,cr0"},
    {M64, "44 0f 20 c0", "mov rax,cr8"},
    {M64, "0f 22 18", "mov cr3,rax"},
    {M32, "0f 22 d8", "mov cr3,eax"},
    {M64, "66 0f 22 d8", "mov cr3,rax"},
    {M64, "0f 20 c8", NULL},
    {M64, "44 0f 20 c8", NULL},
    {M64, "f0 0f 20 c0", NULL},
    {M64, "0f 23 f8", "mov dr7,rax"},
    {M64, "44 0f 23 f8", NULL},
    {M64, "0f 24 c0", NULL},
    {M64, "0f 01 10", "lgdt [rax]"},
    {M64, "0f 01 38", "invlpg BYTE PTR [rax]"},
    {M64, "0f 01 e0", "smsw eax"},
    {M64, "0f 01 20", "smsw WORD PTR [rax]"},
    {M64, "0f 01 f0", "lmsw ax"},
    {M64, "0f 01 c1", "vmcall"},
    {M64, "0f 01 d9", "vmmcall"},
    {M64, "0f 01 c8", "monitor"},
    {M64, "0f 01 d0", "xgetbv"},
    {M64, "66 0f 01 d0", NULL},
    {M64, "0f 01 f8", "swapgs"},
    {M32, "0f 01 f8", NULL},
    {M64, "0f 01 f9", "rdtscp"},
    {M64, "0f 01 c2", NULL},
    {M64, "0f 01 fa", NULL},
    {M64, "0f 00 d8", "ltr ax"},
    {M64, "0f 00 08", "str WORD PTR [rax]"},
    {M64, "0f 00 c8", "str eax"},
    {M64, "0f 02 c1", "lar eax,ecx"},
    {M64, "0f 05", "syscall"},
    {M64, "48 0f 07", "sysretq"},
    {M64, "48 0f 35", "sysexitq"},
    {M64, "0f 09", "wbinvd"},
    {M64, "0f a2", "cpuid"},
    {M64, "0f aa", "rsm"},
    {M64, "0f ae 00", "fxsave [rax]"},
    {M64, "48 0f ae 08", "fxrstor64 [rax]"},
    {M64, "66 0f ae 00", NULL},
    {M64, "0f ae 10", "ldmxcsr DWORD PTR [rax]"},
    {M64, "48 0f ae 20", "xsave64 [rax]"},
    {M64, "48 0f c7 18", "xrstors64 [rax]"},
    {M64, "0f ae e8", "lfence"},
    {M64, "0f ae f1", "mfence"},
    {M64, "0f ae ff", "sfence"},
    {M64, "0f ae 38", "clflush BYTE PTR [rax]"},
    {M64, "66 0f ae 38", "clflushopt BYTE PTR [rax]"},
    {M64, "66 0f ae 30", "clwb BYTE PTR [rax]"},
    {M64, "f3 0f ae c0", "rdfsbase eax"},
    {M64, "f3 48 0f ae d8", "wrgsbase rax"},
    {M32, "f3 0f ae c0", NULL},
    {M64, "0f c7 f0", "rdrand eax"},
    {M64, "48 0f c7 f8", "rdseed rax"},
    {M64, "f3 0f c7 f8", "rdpid rax"},
    {M64, "66 0f 38 82 01", "invpcid rax,[rcx]"},
    {M64, "0f 38 82 01", NULL},
    {M64, "66 0f 38 80 01", NULL},
    {M64, "0f 37", NULL},
    {M64, "0f 0e", NULL},
    {M64, "0f 0f c1 9e", NULL},
    {M64, "0f 78 c0", NULL},
    {M64, "0f a6 c0", NULL},
    /* addressing */
    {M64, "8b 04 24", "mov eax,DWORD PTR [rsp]"},
    {M64, "8b 45 00", "mov eax,DWORD PTR [rbp+0x0]"},
    {M64, "41 8b 45 00", "mov eax,DWORD PTR [r13+0x0]"},
    {M64, "41 8b 04 24", "mov eax,DWORD PTR [r12]"},
    {M64, "42 8b 04 20", "mov eax,DWORD PTR [rax+r12*1]"},
    {M64, "8b 04 60", "mov eax,DWORD PTR [rax]"},
    {M64, "8b 04 c5 10 00 00 00", "mov eax,DWORD PTR [rax*8+0x10]"},
    {M64, "8b 84 8d 00 ff ff ff", "mov eax,DWORD PTR [rbp+rcx*4-0x100]"},
    {M64, "67 8b 00", "mov eax,DWORD PTR [eax]"},
    {M64, "67 8b 05 10 00 00 00", "mov eax,DWORD PTR [eip+0x10]"},
    {M32, "8b 05 10 00 00 00", "mov eax,DWORD PTR ds:0x10"},
    {M32, "67 8b 40 10", "mov eax,DWORD PTR [bx+si+0x10]"},
    {M32, "67 8b 06 34 12", "mov eax,DWORD PTR ds:0x1234"},
    {M16, "8b 00", "mov ax,WORD PTR [bx+si]"},
    {M16, "8b 01", "mov ax,WORD PTR [bx+di]"},
    {M16, "8b 02", "mov ax,WORD PTR [bp+si]"},
    {M16, "8b 03", "mov ax,WORD PTR [bp+di]"},
    {M16, "8b 04", "mov ax,WORD PTR [si]"},
    {M16, "8b 05", "mov ax,WORD PTR [di]"},
    {M16, "8b 46 fe", "mov ax,WORD PTR [bp-0x2]"},
    {M16, "8b 87 00 80", "mov ax,WORD PTR [bx-0x8000]"},
    {M16, "67 66 8b 04 88", "mov eax,DWORD PTR [eax+ecx*4]"},
    {M64, "64 8b 00", "mov eax,DWORD PTR fs:[rax]"},
    {M64, "2e 8b 00", "mov eax,DWORD PTR [rax]"},
    {M64, "64 2e 8b 00", "mov eax,DWORD PTR fs:[rax]"},
    {M64, "64 65 8b 00", "mov eax,DWORD PTR gs:[rax]"},
    {M32, "2e 8b 00", "mov eax,DWORD PTR cs:[eax]"},
};

START_TEST(test_texts)
{
	const struct text_case *c = &texts[_i];
	struct emu_insn insn;
	char text[128];

	if (!c->text) {
		ck_ud(c->mode, c->hex);
		return;
	}
	insn = decode(c->mode, c->hex);
	ck_assert_msg(strcmp(emu_disassemble(&insn, 0x1000, text, sizeof text), c->text) == 0, "%s: '%s' instead of '%s'",
	              c->hex, text, c->text);
}
END_TEST

/* Every byte string shorter than an instruction asks for more; none reads beyond its end (ASan would see it). */
START_TEST(test_truncated)
{
	const struct text_case *c = &texts[_i];
	const struct emu_decode_mode m = {.mode = c->mode, .protected_mode = true};
	uint8_t bytes[64], *exact;
	unsigned length = parse(c->hex, bytes);
	struct emu_insn insn;

	for (unsigned n = 0; c->text && n < length; n++) {
		exact = malloc(n + !n);
		memcpy(exact, bytes, n);
		ck_assert_int_eq(emu_decode(exact, n, &m, &insn), EMU_DECODE_MORE);
		free(exact);
	}
}
END_TEST

/* ---- prefixes and length ---- */

START_TEST(test_length_limit)
{
	struct emu_insn insn;

	/* 15 bytes are allowed, 16 are not */
	ck_assert_int_eq(decode_in("66 66 66 66 66 66 66 66 66 66 66 66 66 01 c8", M64, true, NULL, &insn), EMU_DECODE_OK);
	ck_assert_uint_eq(insn.len, 15);
	ck_assert_int_eq(decode_in("66 66 66 66 66 66 66 66 66 66 66 66 66 66 01 c8", M64, true, NULL, &insn),
	                 EMU_DECODE_TOO_LONG);
	ck_assert_int_eq(decode_in("66 66 66 66 66 66 66 66 66 66 66 66 66 66", M64, true, NULL, &insn), EMU_DECODE_MORE);
	ck_assert_int_eq(decode_in("66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", M64, true, NULL, &insn),
	                 EMU_DECODE_TOO_LONG);
	ck_assert_int_eq(decode_in("2e 2e 2e 2e 2e 48 b8 00 00 00 00 00 00 00 00", M64, true, NULL, &insn), EMU_DECODE_OK);
	ck_assert_int_eq(decode_in("2e 2e 2e 2e 2e 2e 48 b8 00 00 00 00 00 00 00 00", M64, true, NULL, &insn),
	                 EMU_DECODE_TOO_LONG);
}
END_TEST

START_TEST(test_rex)
{
	struct emu_insn insn;

	insn = decode(M64, "41 48 01 c8"); /* the last REX counts */
	ck_assert_uint_eq(insn.opsize, 8);
	ck_assert_uint_eq(insn.rm, VC_RAX);
	insn = decode(M64, "48 66 01 c8"); /* another prefix behind it undoes REX */
	ck_assert_uint_eq(insn.opsize, 2);
	ck_assert(!(insn.prefixes & (EMU_P_REX | EMU_P_W)));
	insn = decode(M64, "41 2e 50");
	ck_assert_uint_eq(insn.reg, VC_RAX);
	insn = decode(M32, "48"); /* no REX outside 64-bit mode */
	ck_assert_uint_eq(insn.op, EMU_DEC);
	insn = decode(M64, "40 88 c4");
	ck_assert(insn.prefixes & EMU_P_REX);
	ck_assert_uint_eq(insn.rm, 4);
}
END_TEST

START_TEST(test_repeat_prefixes)
{
	struct emu_insn insn;

	insn = decode(M64, "f2 f3 0f b8 c1"); /* the last of F2 and F3 counts */
	ck_assert_uint_eq(insn.op, EMU_POPCNT);
	ck_ud(M64, "f3 f2 0f b8 c1");
	insn = decode(M64, "f2 f3 a4");
	ck_assert_uint_eq(insn.prefixes & (EMU_P_REP | EMU_P_REPNE), EMU_P_REP);
	insn = decode(M64, "f3 01 c8"); /* no meaning here */
	ck_assert_uint_eq(insn.op, EMU_ADD);
	insn = decode(M64, "f3 41 90");
	ck_assert_uint_eq(insn.op, EMU_XCHG);
}
END_TEST

START_TEST(test_lock)
{
	static const char *const allowed[] = {"00 00",    "08 00",    "10 00",    "18 00",    "20 00",    "28 00",
	                                      "30 00",    "80 00 00", "83 08 00", "fe 00",    "ff 08",    "f6 10",
	                                      "f7 18",    "86 00",    "0f ab 00", "0f b3 00", "0f bb 00", "0f ba 28 00",
	                                      "0f b0 00", "0f c1 00", "0f c7 08"};
	static const char *const refused[] = {"38 00", "02 00",    "84 00",       "80 38 00",    "88 00",    "ff 10",
	                                      "ff 30", "d0 20",    "0f a3 00",    "0f ba 20 00", "0f af 00", "a4",
	                                      "90",    "0f 18 00", "0f 38 f0 00", "0f b6 00",    "c3"};
	char hex[64];

	for (size_t n = 0; n < VC_ARRAY_SIZE(allowed); n++) {
		struct emu_insn insn;

		snprintf(hex, sizeof hex, "f0 %s", allowed[n]);
		insn = decode(M64, hex);
		ck_assert(insn.prefixes & EMU_P_LOCK);
	}
	for (size_t n = 0; n < VC_ARRAY_SIZE(refused); n++) {
		snprintf(hex, sizeof hex, "f0 %s", refused[n]);
		ck_ud(M64, hex);
	}
	ck_ud(M64, "f0 00 c0");
	ck_ud(M64, "f0 86 c0");
}
END_TEST

/* ---- fields ---- */

START_TEST(test_sizes)
{
	static const struct {
		uint8_t mode;
		const char *hex;
		uint8_t opsize, stacksize, addrsize;
	} cases[] = {
	    {M64, "50", 8, 8, 8},
	    {M64, "66 50", 2, 2, 8},
	    {M32, "50", 4, 4, 4},
	    {M16, "50", 2, 2, 2},
	    {M16, "66 50", 4, 4, 2},
	    {M64, "c3", 8, 8, 8},
	    {M64, "66 c3", 8, 8, 8},
	    {M32, "66 c3", 2, 2, 4},
	    {M64, "cb", 4, 4, 8},
	    {M64, "48 cb", 8, 8, 8},
	    {M64, "66 cb", 2, 2, 8},
	    {M64, "cf", 4, 4, 8},
	    {M64, "48 cf", 8, 8, 8},
	    {M64, "e8 00 00 00 00", 8, 8, 8},
	    {M64, "66 e8 00 00 00 00", 8, 8, 8},
	    {M16, "e8 00 00", 2, 2, 2},
	    {M64, "ff 18", 4, 4, 8},
	    {M64, "48 ff 18", 8, 8, 8},
	    {M64, "8f 00", 8, 8, 8},
	    {M64, "9d", 8, 8, 8},
	    {M64, "66 9d", 2, 2, 8},
	    {M64, "c9", 8, 8, 8},
	    {M64, "0f a1", 8, 8, 8},
	    {M32, "60", 4, 4, 4},
	    {M16, "61", 2, 2, 2},
	    {M64, "0f 20 c0", 8, 0, 8},
	    {M32, "66 0f 20 c0", 4, 0, 4},
	    {M16, "0f 20 c0", 4, 0, 2},
	    {M64, "66 67 01 00", 2, 0, 4},
	    {M32, "67 01 00", 4, 0, 2},
	    {M16, "67 66 01 00", 4, 0, 4},
	    {M64, "0f 01 10", 8, 0, 8},
	    {M64, "66 0f 01 10", 8, 0, 8},
	    {M16, "0f 01 17", 2, 0, 2},
	    {M16, "66 0f 01 17", 4, 0, 2},
	    {M64, "0f 00 d8", 2, 0, 8},
	    {M64, "8e d8", 2, 0, 8},
	    {M64, "48 ed", 4, 0, 8},
	    {M64, "66 0f 38 f6 c1", 4, 0, 8},
	    {M64, "0f c7 08", 4, 0, 8},
	    {M64, "48 0f c7 08", 8, 0, 8},
	    {M64, "0f 94 c0", 1, 0, 8},
	};

	for (size_t n = 0; n < VC_ARRAY_SIZE(cases); n++) {
		struct emu_insn insn = decode(cases[n].mode, cases[n].hex);

		ck_assert_msg(insn.opsize == cases[n].opsize && insn.stacksize == cases[n].stacksize &&
		                  insn.addrsize == cases[n].addrsize,
		              "mode %u, %s: operand %u, stack %u, address %u", cases[n].mode, cases[n].hex, insn.opsize,
		              insn.stacksize, insn.addrsize);
	}
}
END_TEST

START_TEST(test_segments)
{
	static const struct {
		uint8_t mode;
		const char *hex;
		uint8_t seg;
	} cases[] = {
	    {M64, "8b 00", VC_DS},       {M64, "8b 04 24", VC_SS},    {M64, "8b 45 00", VC_SS},
	    {M64, "41 8b 45 00", VC_DS}, {M64, "41 8b 04 24", VC_DS}, {M64, "8b 04 25 00 00 00 00", VC_DS},
	    {M64, "36 8b 00", VC_DS},    {M64, "64 8b 45 00", VC_FS}, {M64, "8b 05 00 00 00 00", VC_DS},
	    {M64, "8b 44 05 00", VC_SS}, {M64, "8b 44 28 00", VC_DS}, {M32, "36 8b 00", VC_SS},
	    {M32, "3e 8b 45 00", VC_DS}, {M32, "8b 45 00", VC_SS},    {M32, "26 a4", VC_ES},
	    {M32, "a4", VC_DS},          {M16, "8b 02", VC_SS},       {M16, "8b 46 00", VC_SS},
	    {M16, "8b 06 00 00", VC_DS}, {M16, "2e a1 00 00", VC_CS}, {M64, "65 d7", VC_GS},
	};

	for (size_t n = 0; n < VC_ARRAY_SIZE(cases); n++) {
		struct emu_insn insn = decode(cases[n].mode, cases[n].hex);

		ck_assert_msg(insn.seg == cases[n].seg, "mode %u, %s: segment %u", cases[n].mode, cases[n].hex, insn.seg);
	}
}
END_TEST

START_TEST(test_operands)
{
	struct emu_insn insn;

	insn = decode(M64, "c8 34 12 05");
	ck_assert_uint_eq(insn.imm, 0x1234);
	ck_assert_uint_eq(insn.imm2, 5);
	insn = decode(M16, "ea 34 12 78 56");
	ck_assert_uint_eq(insn.imm, 0x1234);
	ck_assert_uint_eq(insn.imm2, 0x5678);
	insn = decode(M64, "48 81 c0 00 00 00 80");
	ck_assert_uint_eq(insn.imm, 0xffffffff80000000);
	insn = decode(M64, "b8 00 00 00 80");
	ck_assert_uint_eq(insn.imm, 0x80000000);
	insn = decode(M64, "cd ff");
	ck_assert_uint_eq(insn.imm, 0xff);
	insn = decode(M64, "c2 ff ff");
	ck_assert_uint_eq(insn.imm, 0xffff);
	insn = decode(M64, "8b 44 88 80");
	ck_assert_int_eq(insn.disp, -128);
	ck_assert_uint_eq(insn.base, VC_RAX);
	ck_assert_uint_eq(insn.index, VC_RCX);
	ck_assert_uint_eq(insn.scale, 2);
	insn = decode(M64, "8b 04 25 00 00 00 80");
	ck_assert_int_eq(insn.disp, INT32_MIN);
	ck_assert_uint_eq(insn.base, EMU_REG_NONE);
	ck_assert_uint_eq(insn.index, EMU_REG_NONE);
	insn = decode(M64, "8b 05 fc ff ff ff");
	ck_assert_uint_eq(insn.base, EMU_REG_RIP);
	insn = decode(M64, "0f 8e 00 00 00 00");
	ck_assert_uint_eq(insn.reg2, 0xe);
	insn = decode(M64, "0f 93 c0");
	ck_assert_uint_eq(insn.reg2, 3);
	insn = decode(M64, "c4 62 18 f2 d8"); /* andn r11d,r12d,eax */
	ck_assert_uint_eq(insn.reg, VC_R11);
	ck_assert_uint_eq(insn.reg2, VC_R12);
	ck_assert_uint_eq(insn.rm, VC_RAX);
	ck_assert_uint_eq(insn.map, 2);
	ck_assert(insn.prefixes & EMU_P_VEX);
	insn = decode(M64, "c4 e2 6b f5 c1"); /* VEX.pp shows as the prefix */
	ck_assert(insn.prefixes & EMU_P_REPNE);
}
END_TEST

START_TEST(test_segment_registers)
{
	static const struct {
		const char *hex;
		uint8_t seg;
		bool load;
	} cases[] = {{"06", VC_ES, false},      {"0e", VC_CS, false},      {"16", VC_SS, false},     {"1f", VC_DS, false},
	             {"0f a0", VC_FS, false},   {"0f a9", VC_GS, false},   {"c4 00", VC_ES, true},   {"c5 00", VC_DS, true},
	             {"0f b2 00", VC_SS, true}, {"0f b4 00", VC_FS, true}, {"0f b5 00", VC_GS, true}};

	for (size_t n = 0; n < VC_ARRAY_SIZE(cases); n++) {
		struct emu_insn insn = decode(M32, cases[n].hex);

		ck_assert_uint_eq(cases[n].load ? insn.reg2 : insn.reg, cases[n].seg);
		ck_assert(!cases[n].load || insn.op == EMU_LDS);
	}
	ck_ud(M64, "0f b2 c0");
}
END_TEST

/* ---- modes and features ---- */

START_TEST(test_real_mode)
{
	static const char *const protected_only[] = {"0f 00 c0", "0f 00 d8", "0f 00 e0", "0f 02 c1", "0f 03 c1", "63 c0"};
	struct emu_insn insn;

	for (size_t n = 0; n < VC_ARRAY_SIZE(protected_only); n++) {
		ck_assert_int_eq(decode_in(protected_only[n], M16, false, NULL, &insn), EMU_DECODE_UD);
		ck_assert_int_eq(decode_in(protected_only[n], M16, true, NULL, &insn), EMU_DECODE_OK);
	}
	/* VEX is LES/LDS with a register there, which is #UD as well */
	ck_assert_int_eq(decode_in("c4 e2 70 f2 c2", M16, false, NULL, &insn), EMU_DECODE_UD);
	ck_assert_int_eq(decode_in("c4 e2 70 f2 c2", M16, true, NULL, &insn), EMU_DECODE_OK);
	ck_assert_int_eq(decode_in("c4 02", M16, false, NULL, &insn), EMU_DECODE_OK);
	ck_assert_int_eq(decode_in("0f 20 c0", M16, false, NULL, &insn), EMU_DECODE_OK);
}
END_TEST

START_TEST(test_features)
{
	static const struct {
		const char *hex;
		enum vc_feature feature;
	} gated[] = {
	    {"0f 44 c1", VC_F_CMOV},
	    {"0f c7 08", VC_F_CX8},
	    {"48 0f c7 08", VC_F_CX16},
	    {"f3 0f b8 c1", VC_F_POPCNT},
	    {"0f 01 f9", VC_F_RDTSCP},
	    {"0f c7 f0", VC_F_RDRAND},
	    {"0f c7 f8", VC_F_RDSEED},
	    {"f3 0f c7 f8", VC_F_RDPID},
	    {"0f 38 f0 00", VC_F_MOVBE},
	    {"f2 0f 38 f0 c1", VC_F_SSE42},
	    {"66 0f 38 f6 c1", VC_F_ADX},
	    {"0f 05", VC_F_SYSCALL},
	    {"0f 34", VC_F_SEP},
	    {"66 0f 38 82 00", VC_F_INVPCID},
	    {"0f 01 ca", VC_F_SMAP},
	    {"0f 01 ee", VC_F_PKU},
	    {"0f ae 20", VC_F_XSAVE},
	    {"0f ae 30", VC_F_XSAVEOPT},
	    {"0f c7 20", VC_F_XSAVEC},
	    {"0f c7 28", VC_F_XSAVES},
	    {"c4 e2 70 f2 c2", VC_F_BMI1},
	    {"c4 e3 7b f0 c1 07", VC_F_BMI2},
	    {"f3 0f ae c0", VC_F_FSGSBASE},
	    {"9f", VC_F_LAHF},
	    {"0f c3 00", VC_F_SSE2},
	    {"0f ae e8", VC_F_SSE2},
	    {"0f ae 38", VC_F_CLFSH},
	    {"66 0f ae 38", VC_F_CLFLUSHOPT},
	    {"66 0f ae 30", VC_F_CLWB},
	    {"0f 01 c8", VC_F_MONITOR},
	    {"0f 32", VC_F_MSR},
	    {"0f 31", VC_F_TSC},
	};
	struct vc_feature_set none = {{0, 0}}, one, all = {{~0ull, ~0ull}};
	struct emu_insn insn;

	for (size_t n = 0; n < VC_ARRAY_SIZE(gated); n++) {
		one = none;
		vc_feature_put(&one, gated[n].feature, true);
		ck_assert_int_eq(decode_in(gated[n].hex, M64, true, &none, &insn), EMU_DECODE_UD);
		if (gated[n].feature != VC_F_CX16) /* its row is reached through CMPXCHG8B's */
			ck_assert_int_eq(decode_in(gated[n].hex, M64, true, &one, &insn), EMU_DECODE_OK);
		ck_assert_int_eq(decode_in(gated[n].hex, M64, true, &all, &insn), EMU_DECODE_OK);
		one = all;
		vc_feature_put(&one, gated[n].feature, false);
		ck_assert_int_eq(decode_in(gated[n].hex, M64, true, &one, &insn), EMU_DECODE_UD);
	}
	/* older CPUs ignore the prefix of these */
	ck_assert_int_eq(decode_in("f3 0f bc c1", M64, true, &none, &insn), EMU_DECODE_OK);
	ck_assert_uint_eq(insn.op, EMU_BSF);
	ck_assert_int_eq(decode_in("f3 0f bd c1", M64, true, &none, &insn), EMU_DECODE_OK);
	ck_assert_uint_eq(insn.op, EMU_BSR);
	ck_assert_int_eq(decode_in("f3 0f bd c1", M64, true, &all, &insn), EMU_DECODE_OK);
	ck_assert_uint_eq(insn.op, EMU_LZCNT);
	/* LAHF always exists outside 64-bit mode */
	ck_assert_int_eq(decode_in("9f", M32, true, &none, &insn), EMU_DECODE_OK);
	ck_assert_int_eq(decode_in("f3 90", M64, true, &none, &insn), EMU_DECODE_OK);
}
END_TEST

/* ---- flags and attributes ---- */

START_TEST(test_flags)
{
	enum { C = EMU_FL_C, P = EMU_FL_P, A = EMU_FL_A, Z = EMU_FL_Z, S = EMU_FL_S, O = EMU_FL_O, ALL = EMU_FL_ALL };
	static const struct {
		const char *hex;
		uint8_t read, written, undefined;
	} cases[] = {
	    {"01 c8", 0, ALL, 0},
	    {"11 c8", C, ALL, 0},
	    {"21 c8", 0, ALL & ~A, A},
	    {"83 d8 00", C, ALL, 0},
	    {"ff c0", 0, ALL & ~C, 0},
	    {"f7 d0", 0, 0, 0},
	    {"f7 d8", 0, ALL, 0},
	    {"f7 e1", 0, C | O, P | A | Z | S},
	    {"f7 f1", 0, 0, ALL},
	    {"0f af c1", 0, C | O, P | A | Z | S},
	    {"d1 e0", 0, ALL & ~A, A},
	    {"d3 e0", ALL, C | P | Z | S, A | O},
	    {"c1 e0 04", ALL, C | P | Z | S, A | O},
	    {"d1 c0", 0, C | O, 0},
	    {"d3 c0", C | O, C, O},
	    {"d1 d0", C, C | O, 0},
	    {"0f a5 c8", ALL, C | P | Z | S, A | O},
	    {"0f a3 c8", 0, C, P | A | S | O},
	    {"0f bc c1", 0, Z, C | P | A | S | O},
	    {"f3 0f bc c1", 0, C | Z, P | A | S | O},
	    {"f3 0f b8 c1", 0, ALL, 0},
	    {"0f b1 c8", 0, ALL, 0},
	    {"0f c7 08", 0, Z, 0},
	    {"0f 44 c1", Z, 0, 0},
	    {"7f 00", Z | S | O, 0, 0},
	    {"0f 92 c0", C, 0, 0},
	    {"e1 00", Z, 0, 0},
	    {"e2 00", 0, 0, 0},
	    {"9c", ALL, 0, 0},
	    {"9d", 0, ALL, 0},
	    {"9e", 0, ALL & ~O, 0},
	    {"9f", ALL & ~O, 0, 0},
	    {"f8", 0, C, 0},
	    {"f5", C, C, 0},
	    {"a6", ALL, ALL, 0},
	    {"a4", 0, 0, 0},
	    {"66 0f 38 f6 c1", C, C, 0},
	    {"f3 0f 38 f6 c1", O, O, 0},
	    {"0f c7 f0", 0, ALL, 0},
	    {"c4 e2 70 f2 c2", 0, C | Z | S | O, P | A},
	    {"c4 e2 68 f7 c1", 0, C | Z | O, P | A | S},
	    {"c4 e2 69 f7 c1", 0, 0, 0},
	    {"8b c1", 0, 0, 0},
	    {"0f 05", ALL, ALL, 0},
	    {"cc", ALL, 0, 0},
	    {"0f 02 c1", 0, Z, 0},
	};

	for (size_t n = 0; n < VC_ARRAY_SIZE(cases); n++) {
		struct emu_insn insn = decode(M64, cases[n].hex);
		const struct emu_opdesc *d = insn.desc;

		ck_assert_msg(d->flags_read == cases[n].read && d->flags_written == cases[n].written &&
		                  d->flags_undefined == cases[n].undefined,
		              "%s (%s): reads %x, writes %x, undefined %x", cases[n].hex, d->name, d->flags_read,
		              d->flags_written, d->flags_undefined);
		ck_assert_uint_eq(d->flags_written & d->flags_undefined, 0);
	}
}
END_TEST

START_TEST(test_block_ends)
{
	static const char *const ends[] = {"eb 00",
	                                   "74 00",
	                                   "e8 00 00 00 00",
	                                   "c3",
	                                   "ff e0",
	                                   "cc",
	                                   "cd 80",
	                                   "cf",
	                                   "f4",
	                                   "fa",
	                                   "fb",
	                                   "9d",
	                                   "0f 05",
	                                   "0f 22 c0",
	                                   "0f 30",
	                                   "0f 01 38",
	                                   "8e d8",
	                                   "0f a1",
	                                   "e2 00",
	                                   "0f 0b",
	                                   "0f 01 cb",
	                                   "66 0f 38 82 01",
	                                   "0f 01 d1",
	                                   "0f b2 00"};
	static const char *const goes_on[] = {"01 c8",    "50",    "9c",    "0f a2", "0f 31",
	                                      "0f 20 c0", "0f 32", "f3 a4", "90",    "e4 10"};

	for (size_t n = 0; n < VC_ARRAY_SIZE(ends); n++)
		ck_assert_msg(decode(M64, ends[n]).desc->attr & EMU_A_END, "%s", ends[n]);
	for (size_t n = 0; n < VC_ARRAY_SIZE(goes_on); n++)
		ck_assert_msg(!(decode(M64, goes_on[n]).desc->attr & EMU_A_END), "%s", goes_on[n]);
}
END_TEST

/* ---- vector and x87 instructions, as far as the decoder itself is concerned ---- */

START_TEST(test_vector)
{
	struct emu_insn insn;

	insn = decode(M64, "0f 58 c1");
	ck_assert_uint_eq(insn.op, EMU_VEC);
	insn = decode(M64, "66 0f 70 44 88 10 1b"); /* displacement, then immediate */
	ck_assert_int_eq(insn.disp, 0x10);
	ck_assert_uint_eq(insn.imm, 0x1b);
	insn = decode(M64, "c5 fc 58 05 00 00 00 00");
	ck_assert_uint_eq(insn.base, EMU_REG_RIP);
	insn = decode(M64, "0f 77");
	ck_assert_uint_eq(insn.op, EMU_VEC);
	insn = decode(M64, "c5 f8 77");
	ck_assert_uint_eq(insn.op, EMU_VEC);
	insn = decode(M64, "d9 c0");
	ck_assert_uint_eq(insn.op, EMU_X87);
	insn = decode(M64, "dd 45 f8");
	ck_assert_uint_eq(insn.seg, VC_SS);
	insn = decode(M64, "66 48 0f 6e c0"); /* MOVQ: REX.W beside a mandatory 66 */
	ck_assert_uint_eq(insn.opsize, 8);
	insn = decode(M64, "66 0f 6e c0");
	ck_assert_uint_eq(insn.opsize, 4);
}
END_TEST

START_TEST(test_gather)
{
	struct emu_insn insn = decode(M64, "c4 e2 69 90 04 a3"); /* vpgatherdd xmm0,[rbx+xmm4*4],xmm2 */

	ck_assert_uint_eq(insn.index, 4);
	ck_assert_uint_eq(insn.scale, 2);
	insn = decode(M64, "c4 a2 69 90 04 a3");
	ck_assert_uint_eq(insn.index, 12);
	ck_ud(M64, "c4 e2 69 90 03");    /* no SIB byte */
	ck_ud(M64, "c4 e2 69 90 c3");    /* a register */
	ck_ud(M64, "c4 e2 69 90 04 83"); /* index = destination */
	ck_ud(M64, "c4 e2 69 90 04 93"); /* index = mask */
	ck_ud(M64, "c4 e2 79 90 04 a3"); /* mask = destination */
	ck_ud(M16, "c4 e2 69 90 04");    /* 16-bit addressing */
}
END_TEST

START_TEST(test_disassembler_buffer)
{
	struct emu_insn insn = decode(M64, "48 8b 84 8d 00 ff ff ff");
	char text[256], whole[256];

	emu_disassemble(&insn, 0, whole, sizeof whole);
	for (unsigned n = 0; n < strlen(whole) + 2; n++) {
		memset(text, 'x', sizeof text);
		ck_assert_ptr_eq(emu_disassemble(&insn, 0, text, n), text);
		if (n)
			ck_assert_uint_eq(strlen(text), n - 1 < strlen(whole) ? n - 1 : strlen(whole));
		ck_assert_int_eq(text[n], 'x');
	}
	decode_in("0f 04", M64, true, NULL, &insn);
	ck_assert_str_eq(emu_disassemble(&insn, 0, text, sizeof text), "(bad)");
	ck_assert_str_eq(emu_op_name(EMU_ADD), "ADD");
	ck_assert_str_eq(emu_op_name(EMU_VEC), "VEC");
	ck_assert_str_eq(emu_op_name(EMU_OP_COUNT), "?");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("decode");
	TCase *tc = tcase_create("decode");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, test_texts, 0, VC_ARRAY_SIZE(texts));
	tcase_add_loop_test(tc, test_truncated, 0, VC_ARRAY_SIZE(texts));
	tcase_add_test(tc, test_length_limit);
	tcase_add_test(tc, test_rex);
	tcase_add_test(tc, test_repeat_prefixes);
	tcase_add_test(tc, test_lock);
	tcase_add_test(tc, test_sizes);
	tcase_add_test(tc, test_segments);
	tcase_add_test(tc, test_operands);
	tcase_add_test(tc, test_segment_registers);
	tcase_add_test(tc, test_real_mode);
	tcase_add_test(tc, test_features);
	tcase_add_test(tc, test_flags);
	tcase_add_test(tc, test_block_ends);
	tcase_add_test(tc, test_vector);
	tcase_add_test(tc, test_gather);
	tcase_add_test(tc, test_disassembler_buffer);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
