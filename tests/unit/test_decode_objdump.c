/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The decoder against objdump: systematic and random bytes in every mode; length, validity and, for most integer
 * instructions, the disassembly must agree.
 *
 * VC_DECODE_CASES sets the number of random cases a mode, VC_DECODE_SEED the seed. Skipped (77) without objdump.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/emu/decode/insn.h"
#include "core/util.h"

/* A case is 15 bytes in a slot of 32; the NOPs behind them bring objdump's linear sweep back into step. */
#define CASE_BYTES 15
#define SLOT       32

struct mode {
	const char *name, *machine;
	enum emu_mode mode;
};
static const struct mode modes[] = {
    {"64-bit", "i386:x86-64", EMU_MODE_64},
    {"32-bit", "i386", EMU_MODE_32},
    {"16-bit", "i8086", EMU_MODE_16},
};

/* What objdump says of the instruction at the start of a slot. */
struct verdict {
	uint8_t length;
	bool valid, open; /* open: only prefixes so far */
	char text[100];
};

static uint64_t rng_state;

static uint32_t rng(void)
{
	rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng_state >> 32);
}

/* ---- cases ---- */

static const uint8_t legacy_prefixes[] = {0x66, 0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x64, 0x65, 0x26};

/* Prefixes, REX last: a REX that another prefix follows is shown by objdump as an instruction of its own. */
static unsigned put_prefixes(uint8_t *bytes, enum emu_mode mode)
{
	unsigned n = 0, count = rng() % 8;

	for (count = count < 4 ? 0 : count - 4; n < count; n++) {
		uint8_t prefix = legacy_prefixes[rng() % sizeof legacy_prefixes];

		if (memchr(bytes, prefix, n)) /* objdump shows one given twice on its own too */
			break;
		bytes[n] = prefix;
	}
	if (mode == EMU_MODE_64 && rng() % 3 == 0)
		bytes[n++] = 0x40 | (rng() & 15);
	return n;
}

static unsigned put_opcode(uint8_t *bytes, uint32_t map, uint8_t opcode)
{
	unsigned n = 0;

	switch (map) {
	case 0:
		break;
	case 1:
		bytes[n++] = 0x0f;
		break;
	case 2:
	case 3:
		bytes[n++] = 0x0f;
		bytes[n++] = map == 2 ? 0x38 : 0x3a;
		break;
	case 4:
		bytes[n++] = 0xc5;
		bytes[n++] = (uint8_t)rng() | (rng() & 1 ? 0xf8 : 0xc0);
		break;
	default:
		bytes[n++] = 0xc4;
		bytes[n++] = 0xc0 | (rng() & 0x20) | (map - 4);
		bytes[n++] = (uint8_t)rng() | (rng() & 1 ? 0x78 : 0);
		break;
	}
	bytes[n++] = opcode;
	return n;
}

static void fill(uint8_t *bytes, unsigned from)
{
	while (from < CASE_BYTES)
		bytes[from++] = (uint8_t)rng();
}

/* Every opcode of every map (5 to 7: VEX.0F, VEX.0F38, VEX.0F3A) comes up, with random prefixes and operands. */
static void make_case(uint8_t *bytes, enum emu_mode mode, unsigned number)
{
	uint32_t map = number / 256 % 8;
	unsigned n = 0;

	if (map < 4 || rng() % 16 == 0)
		n = put_prefixes(bytes, mode);
	n += put_opcode(bytes + n, map, (uint8_t)number);
	if (rng() % 4 == 0)
		bytes[n++] |= 0xc0;
	fill(bytes, n);
	if (rng() % 64 == 0)
		fill(bytes, 0);
}

/* ---- objdump ---- */

static bool is_prefix_word(const char *word, size_t length)
{
	static const char *const words[] = {"data16", "data32", "addr16",   "addr32",   "repz", "repnz",
	                                    "rep",    "lock",   "cs",       "ds",       "es",   "ss",
	                                    "fs",     "gs",     "xacquire", "xrelease", "bnd",  "notrack"};

	if (length >= 3 && strncmp(word, "rex", 3) == 0)
		return true;
	for (size_t n = 0; n < VC_ARRAY_SIZE(words); n++)
		if (strlen(words[n]) == length && strncmp(word, words[n], length) == 0)
			return true;
	return false;
}

/* The text behind prefix words; "" when there is nothing else. */
static const char *skip_prefix_words(const char *text)
{
	for (;;) {
		size_t length = strcspn(text, " \t\n");

		if (!length || !is_prefix_word(text, length))
			return text;
		text += length;
		text += strspn(text, " \t\n");
	}
}

/* "  addr:\t48 89 c8   \tmov rax,rcx" */
static void take_line(const char *line, struct verdict *verdicts, unsigned count)
{
	char *end;
	unsigned long address = strtoul(line, &end, 16);
	unsigned index = address / SLOT, length = 0;
	const char *text;
	struct verdict *v;

	if (*end != ':' || end[1] != '\t' || index >= count)
		return;
	v = &verdicts[index];
	if (address % SLOT != 0 && !(v->open && v->length == address % SLOT))
		return;
	text = strchr(end + 2, '\t');
	for (const char *p = end + 2; p < (text ? text : p + strlen(p)) && p[0] && p[1]; p += 3) {
		if (p[0] == ' ' || p[0] == '\n')
			break;
		length++;
	}
	v->length += length;
	text = text ? skip_prefix_words(text + 1) : "";
	v->open = !*text;
	v->valid = !v->open && !strstr(text, "(bad)") && !strchr(text, '?');
	snprintf(v->text, sizeof v->text, "%.*s", (int)strcspn(text, "\n"), text);
}

static int run_objdump(const struct mode *mode, const uint8_t *bytes, unsigned count, struct verdict *verdicts)
{
	char path[] = "/tmp/vc-decode-XXXXXX", command[256], line[512];
	int fd = mkstemp(path);
	FILE *pipe;

	if (fd < 0 || write(fd, bytes, (size_t)count * SLOT) != (ssize_t)((size_t)count * SLOT))
		return -1;
	close(fd);
	snprintf(command, sizeof command, "objdump -D -b binary -m %s -M intel,intel64 --insn-width=16 %s", mode->machine,
	         path);
	pipe = popen(command, "r");
	if (!pipe)
		return -1;
	while (fgets(line, sizeof line, pipe))
		take_line(line, verdicts, count);
	unlink(path);
	return pclose(pipe);
}

/* ---- where the two may differ ---- */

/* The frame of an instruction, found without the decoder. */
struct shape {
	bool p66, rep, lock, rex, rex_lost; /* rex_lost: a REX that another prefix follows */
	bool vex;
	uint8_t vex_map, vex_pp, vex_opcode;
	uint8_t opcode, second;
};

static struct shape shape_of(const uint8_t *bytes, enum emu_mode mode)
{
	struct shape s = {0};
	unsigned n = 0;

	for (;; n++) {
		uint8_t b = bytes[n % CASE_BYTES];
		bool rex = mode == EMU_MODE_64 && (b & 0xf0) == 0x40;

		if (!rex && !strchr("\x66\x67\xf2\xf3\xf0\x2e\x36\x3e\x26\x64\x65", b))
			break;
		if (n == CASE_BYTES || b == 0)
			break;
		s.rex_lost |= s.rex;
		s.rex = rex;
		s.p66 |= b == 0x66;
		s.rep |= b == 0xf2 || b == 0xf3;
		s.lock |= b == 0xf0;
	}
	s.opcode = bytes[n % CASE_BYTES];
	s.second = bytes[(n + 1) % CASE_BYTES];
	s.vex = s.opcode == 0xc4 || s.opcode == 0xc5;
	if (s.vex) {
		bool three = s.opcode == 0xc4;

		s.vex_map = three ? s.second & 31 : 1;
		s.vex_pp = bytes[(n + 1 + three) % CASE_BYTES] & 3;
		s.vex_opcode = bytes[(n + 2 + three) % CASE_BYTES];
	}
	return s;
}

enum when { ALWAYS, PREFIXED, NOT64 };
struct exception {
	const char *name; /* the mnemonic, or with '*' its beginning */
	enum when when;   /* ALWAYS; with 66, F2 or F3 (or VEX.pp); outside 64-bit mode */
};

/* objdump decodes them; no CPU model has them, or the manuals say #UD. */
static const struct exception not_ours[] = {
    /* VMX, SVM, SMX, SGX, TSX, TDX, RDPRU and other system extensions */
    {"vmread"},
    {"vmwrite"},
    {"vmptrld"},
    {"vmptrst"},
    {"vmclear"},
    {"vmxon"},
    {"vmxoff"},
    {"vmlaunch"},
    {"vmresume"},
    {"vmfunc"},
    {"vmload"},
    {"vmsave"},
    {"vmrun"},
    {"vmgexit"},
    {"invept"},
    {"invvpid"},
    {"invlpga"},
    {"invlpgb"},
    {"tlbsync"},
    {"stgi"},
    {"clgi"},
    {"skinit"},
    {"getsec"},
    {"encls"},
    {"enclu"},
    {"enclv"},
    {"xbegin*"},
    {"xabort"},
    {"xend"},
    {"xtest"},
    {"seamret"},
    {"seamops"},
    {"seamcall"},
    {"tdcall"},
    {"rdpru"},
    {"clzero"},
    {"mcommit"},
    {"monitorx"},
    {"mwaitx"},
    {"psmash"},
    {"pvalidate"},
    {"rmpupdate"},
    {"rmpadjust"},
    {"pconfig"},
    {"serialize"},
    {"xresldtrk"},
    {"xsusldtrk"},
    {"hreset"},
    {"ptwrite"},
    {"umonitor"},
    {"umwait"},
    {"tpause"},
    {"pbndkb"},
    {"rdmsrlist"},
    {"wrmsrlist"},
    {"wrmsrns"},
    {"cldemote"},
    {"rmpquery"},
    /* user interrupts, CET, Key Locker, MOVDIR, ENQCMD, RAO-INT, CMPccXADD, AMX */
    {"uiret"},
    {"testui"},
    {"clui"},
    {"stui"},
    {"senduipi"},
    {"rdssp*"},
    {"incssp*"},
    {"saveprevssp"},
    {"rstorssp"},
    {"setssbsy"},
    {"clrssbsy"},
    {"wrss*"},
    {"wruss*"},
    {"aesenc128kl"},
    {"aesenc256kl"},
    {"aesdec128kl"},
    {"aesdec256kl"},
    {"aesencwide*"},
    {"aesdecwide*"},
    {"encodekey*"},
    {"loadiwkey"},
    {"movdir*"},
    {"enqcmd*"},
    {"aadd"},
    {"aand"},
    {"aor"},
    {"axor"},
    {"cmp*xadd"},
    {"ldtilecfg"},
    {"sttilecfg"},
    {"tile*"},
    {"tdp*"},
    {"tcmm*"},
    /* Padlock and other */
    {"femms"},
    {"vpermil2p*"},
    {"xcrypt*"},
    {"xsha*"},
    {"xstore*"},
    {"montmul"},
    /* AVX-512, AVX-VNNI, AVX-IFMA, AVX-NE-CONVERT */
    {"{vex}*"},
    {"k*"},
    {"vpdp*"},
    {"vcvtne*"},
    {"vbcst*"},
    /* "NP" in the SDM, and so on the host CPU: #UD with 66, F2 or F3 */
    {"xgetbv", PREFIXED},
    {"xsetbv", PREFIXED},
    {"vmcall", PREFIXED},
    {"vmmcall", PREFIXED},
    {"monitor", PREFIXED},
    {"mwait", PREFIXED},
    {"clac", PREFIXED},
    {"stac", PREFIXED},
    {"rdpkru", PREFIXED},
    {"wrpkru", PREFIXED},
    {"fxsave*", PREFIXED},
    {"fxrstor*", PREFIXED},
    {"ldmxcsr", PREFIXED},
    {"stmxcsr", PREFIXED},
    {"xrstor*", PREFIXED},
    {"xsave*", PREFIXED},
    {"sfence", PREFIXED},
    {"lfence", PREFIXED},
    {"mfence", PREFIXED},
    {"pmovmskb", PREFIXED},
    {"vldmxcsr", PREFIXED},
    {"vstmxcsr", PREFIXED},
    {"vzeroupper", PREFIXED},
    {"vzeroall", PREFIXED},
    {"frstpm(287"},      /* of the 80287 */
    {"extrq", PREFIXED}, /* 66 0F 78 /0: objdump takes any reg */
    {"rdfsbase", NOT64},
    {"rdgsbase", NOT64},
    {"wrfsbase", NOT64},
    {"wrgsbase", NOT64},
    {"swapgs", NOT64},
};

/* We decode them; objdump does not. */
static const struct exception not_objdumps[] = {
    {"salc"},             /* D6: in every Intel CPU, now in the opcode map too */
    {"nop"},              /* 0F 0D, 0F 18-1F: reserved hints, and register forms of prefetch and MPX */
    {"wbinvd", PREFIXED}, /* only F3 makes another instruction of it */
    {"bsf", PREFIXED},
    {"bsr", PREFIXED}, /* likewise F3; F2 is ignored (host CPU) */
    {"lfence"},
    {"mfence"},
    {"sfence"}, /* SDM: ModRM.rm is ignored */
    {"fcom"},
    {"fcomp"},
    {"fxch"},
    {"fstp"},
    {"ffreep"}, /* aliases: DC D0, DC D8, DD C8, DE D0, DF C8, DF D0, DF D8, DF C0 */
};

static bool listed(const struct exception *list, size_t count, const char *text, const struct shape *s,
                   enum emu_mode mode)
{
	size_t length = strcspn(text, " ");

	for (size_t n = 0; n < count; n++) {
		const char *star = strchr(list[n].name, '*');
		size_t fixed = star ? (size_t)(star - list[n].name) : strlen(list[n].name);
		bool same = star ? length >= fixed : length == fixed;

		if (!same || strncmp(text, list[n].name, fixed) != 0)
			continue;
		if (star && star[1] && strncmp(text + length - strlen(star + 1), star + 1, strlen(star + 1)) != 0)
			continue;
		if (list[n].when == ALWAYS || (list[n].when == PREFIXED && (s->p66 || s->rep || s->vex_pp)) ||
		    (list[n].when == NOT64 && mode != EMU_MODE_64))
			return true;
	}
	return false;
}

/* Why a difference is no error of ours; NULL: it is one. */
static const char *excuse(const uint8_t *bytes, const struct mode *mode, int status, const char *mine,
                          const struct verdict *v)
{
	struct shape s = shape_of(bytes, mode->mode);

	if (s.rex_lost)
		return "objdump shows a REX that is not the last prefix as an instruction";
	if (s.opcode == 0x9b)
		return "objdump takes FWAIT for a prefix";
	if (status == EMU_DECODE_TOO_LONG)
		return "over 15 bytes";
	if (status != EMU_DECODE_OK && v->valid) {
		if (s.lock)
			return "objdump does not check LOCK";
		if (s.vex && (s.rex || s.p66 || s.rep))
			return "objdump does not check prefixes before VEX";
		if (s.opcode == 0x62 && (mode->mode == EMU_MODE_64 || s.second >= 0xc0))
			return "EVEX";
		if (s.opcode == 0x8f && s.second & 0x38)
			return "XOP";
		if (s.opcode == 0x0f && (s.second & 0xf8) == 0x20)
			return "reserved control, debug and test registers";
		if (s.opcode == 0x0f && s.second == 0x0f)
			return "3DNow!";
		if (s.opcode == 0x8e && strstr(v->text, "cs,"))
			return "MOV CS";
		if (s.vex_map == 3 && ((s.vex_opcode & 0xd8) == 0x58 || s.vex_opcode >= 0x68) && s.vex_opcode < 0x80)
			return "FMA4";
		if (listed(not_ours, VC_ARRAY_SIZE(not_ours), v->text, &s, mode->mode))
			return "extension";
	}
	if (status == EMU_DECODE_OK && !v->valid && listed(not_objdumps, VC_ARRAY_SIZE(not_objdumps), mine, &s, mode->mode))
		return "objdump does not know";
	return NULL;
}

/* ---- comparison ---- */

/* Integer instructions that both write alike; the rest differs in taste. */
static bool same_dialect(const struct emu_insn *insn, const struct shape *s, const struct verdict *v)
{
	static const uint16_t ops[] = {
	    EMU_VEC,         EMU_X87,       EMU_NOP,      EMU_MOVS,  EMU_CMPS, EMU_STOS,         EMU_LODS,       EMU_SCAS,
	    EMU_INS,         EMU_OUTS,      EMU_XLAT,     EMU_BOUND, EMU_LDS,  EMU_IRET,         EMU_RETF,       EMU_SYSRET,
	    EMU_ENTER,       EMU_LEAVE,     EMU_PUSHF,    EMU_POPF,  EMU_RET,  EMU_UD,           EMU_SYSEXIT,    EMU_WBINVD,
	    EMU_MOV_TO_SREG, EMU_PUSH_SREG, EMU_POP_SREG, EMU_PUSHA, EMU_POPA, EMU_CALL_FAR_IND, EMU_JMP_FAR_IND};

	for (size_t n = 0; n < VC_ARRAY_SIZE(ops); n++)
		if (insn->op == ops[n])
			return false;
	if (insn->base == EMU_REG_RIP || insn->desc->imm == EMU_IMM_MOFFS || insn->desc->imm == EMU_IMM_V ||
	    strstr(v->text, "riz") || strstr(v->text, "eiz"))
		return false; /* other notation */
	if (s->rex_lost || (s->p66 && (s->rex || s->rep)) || strcmp(v->text, "pause") == 0)
		return false; /* objdump loses prefixes; lets 66 beat REX.W at times; does not see that F3 with REX.B 90 is XCHG
		               */
	if (insn->stacksize || insn->desc->enc == EMU_ENC_REL || insn->desc->enc == EMU_ENC_FAR ||
	    insn->desc->enc == EMU_ENC_M)
		return insn->stacksize == 8; /* suffixes by operand size */
	return true;
}

static bool same_text(const char *mine, const char *theirs)
{
	while (*mine && *mine == *theirs) {
		if (*theirs == ' ')
			theirs += strspn(theirs, " ") - 1;
		mine++;
		theirs++;
	}
	return !*mine && !*(theirs + strspn(theirs, " "));
}

static unsigned compare(const struct mode *mode, const uint8_t *bytes, uint64_t address, const struct verdict *v)
{
	const struct emu_decode_mode m = {.mode = mode->mode, .protected_mode = true};
	struct emu_insn insn;
	char mine[128];
	int status = emu_decode(bytes, CASE_BYTES, &m, &insn);

	emu_disassemble(&insn, address, mine, sizeof mine);
	if (status == EMU_DECODE_OK ? v->valid && v->length == insn.len : !v->valid) {
		const struct shape s = shape_of(bytes, mode->mode);

		if (status != EMU_DECODE_OK || !same_dialect(&insn, &s, v) || same_text(skip_prefix_words(mine), v->text))
			return 0;
	} else if (excuse(bytes, mode, status, mine, v)) {
		return 0;
	}
	printf("%s ", mode->name);
	for (unsigned n = 0; n < CASE_BYTES; n++)
		printf("%02x ", bytes[n]);
	printf(": decoder %d, %u bytes, %s; objdump %s, %u bytes, %s\n", status, insn.len, mine,
	       v->valid ? "valid" : "invalid", v->length, v->text);
	return 1;
}

static unsigned check_mode(const struct mode *mode, unsigned count)
{
	uint8_t *bytes = malloc((size_t)count * SLOT);
	struct verdict *verdicts = calloc(count, sizeof *verdicts);
	unsigned wrong = 0;

	memset(bytes, 0x90, (size_t)count * SLOT);
	for (unsigned n = 0; n < count; n++)
		make_case(bytes + (size_t)n * SLOT, mode->mode, n);
	if (run_objdump(mode, bytes, count, verdicts) != 0) {
		printf("%s: objdump failed\n", mode->name);
		wrong = 1;
	}
	for (unsigned n = 0; n < count; n++)
		wrong += compare(mode, bytes + (size_t)n * SLOT, (uint64_t)n * SLOT, &verdicts[n]);
	free(verdicts);
	free(bytes);
	printf("%s: %u cases, %u differences\n", mode->name, count, wrong);
	return wrong;
}

int main(void)
{
	const char *cases = getenv("VC_DECODE_CASES"), *seed = getenv("VC_DECODE_SEED");
	unsigned count = cases ? (unsigned)strtoul(cases, NULL, 0) : 20000, wrong = 0;

	if (system("objdump --version >/dev/null 2>&1") != 0) {
		printf("SKIP: no objdump (package binutils)\n");
		return 77;
	}
	rng_state = seed ? strtoull(seed, NULL, 0) : 1;
	printf("seed %llu\n", (unsigned long long)rng_state);
	for (size_t n = 0; n < VC_ARRAY_SIZE(modes); n++)
		wrong += check_mode(&modes[n], count);
	return wrong != 0;
}
