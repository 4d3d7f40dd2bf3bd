#include "soft/system/instructions.hpp"
#include <Zydis/Mnemonic.h>
#include <algorithm>
#include <iterator>

// The instruction table's part: one row a mnemonic.
namespace abyme::soft::system {

namespace {

struct Row {
  ZydisMnemonic mnemonic;
  SlowHandler handler;
};

// In the order of ZydisMnemonic, which is alphabetical.
// clang-format off
constexpr Row kRows[] = {
    {ZYDIS_MNEMONIC_ARPL, arpl},
    {ZYDIS_MNEMONIC_BOUND, bound},
    {ZYDIS_MNEMONIC_CLFLUSH, clflush},
    {ZYDIS_MNEMONIC_CLFLUSHOPT, clflushopt},
    {ZYDIS_MNEMONIC_CLI, cli},
    {ZYDIS_MNEMONIC_CLTS, clts},
    {ZYDIS_MNEMONIC_CLWB, clwb},
    {ZYDIS_MNEMONIC_CPUID, cpuid},
    {ZYDIS_MNEMONIC_HLT, hlt},
    {ZYDIS_MNEMONIC_INT, int_n},
    {ZYDIS_MNEMONIC_INT1, int1},
    {ZYDIS_MNEMONIC_INT3, int3},
    {ZYDIS_MNEMONIC_INTO, into},
    {ZYDIS_MNEMONIC_INVD, invd},
    {ZYDIS_MNEMONIC_INVLPG, invlpg},
    {ZYDIS_MNEMONIC_INVPCID, invpcid},
    {ZYDIS_MNEMONIC_IRET, iret},
    {ZYDIS_MNEMONIC_IRETD, iret},
    {ZYDIS_MNEMONIC_IRETQ, iret},
    {ZYDIS_MNEMONIC_LAR, lar},
    {ZYDIS_MNEMONIC_LDS, lds},
    {ZYDIS_MNEMONIC_LES, les},
    {ZYDIS_MNEMONIC_LFS, lfs},
    {ZYDIS_MNEMONIC_LGDT, lgdt},
    {ZYDIS_MNEMONIC_LGS, lgs},
    {ZYDIS_MNEMONIC_LIDT, lidt},
    {ZYDIS_MNEMONIC_LLDT, lldt},
    {ZYDIS_MNEMONIC_LMSW, lmsw},
    {ZYDIS_MNEMONIC_LSL, lsl},
    {ZYDIS_MNEMONIC_LSS, lss},
    {ZYDIS_MNEMONIC_LTR, ltr},
    {ZYDIS_MNEMONIC_MONITOR, monitor},
    {ZYDIS_MNEMONIC_MWAIT, mwait},
    {ZYDIS_MNEMONIC_PAUSE, pause},
    {ZYDIS_MNEMONIC_POPF, popf},
    {ZYDIS_MNEMONIC_POPFD, popf},
    {ZYDIS_MNEMONIC_POPFQ, popf},
    {ZYDIS_MNEMONIC_PUSHF, pushf},
    {ZYDIS_MNEMONIC_PUSHFD, pushf},
    {ZYDIS_MNEMONIC_PUSHFQ, pushf},
    {ZYDIS_MNEMONIC_RDFSBASE, rdfsbase},
    {ZYDIS_MNEMONIC_RDGSBASE, rdgsbase},
    {ZYDIS_MNEMONIC_RDMSR, rdmsr},
    {ZYDIS_MNEMONIC_RDPID, rdpid},
    {ZYDIS_MNEMONIC_RDPMC, rdpmc},
    {ZYDIS_MNEMONIC_RDTSC, rdtsc},
    {ZYDIS_MNEMONIC_RDTSCP, rdtscp},
    {ZYDIS_MNEMONIC_RSM, undefined}, // there is no SMM
    {ZYDIS_MNEMONIC_SGDT, sgdt},
    {ZYDIS_MNEMONIC_SIDT, sidt},
    {ZYDIS_MNEMONIC_SLDT, sldt},
    {ZYDIS_MNEMONIC_SMSW, smsw},
    {ZYDIS_MNEMONIC_STI, sti},
    {ZYDIS_MNEMONIC_STR, str},
    {ZYDIS_MNEMONIC_SWAPGS, swapgs},
    {ZYDIS_MNEMONIC_SYSCALL, syscall},
    {ZYDIS_MNEMONIC_SYSENTER, sysenter},
    {ZYDIS_MNEMONIC_SYSEXIT, sysexit},
    {ZYDIS_MNEMONIC_SYSRET, sysret},
    {ZYDIS_MNEMONIC_UD0, undefined},
    {ZYDIS_MNEMONIC_UD1, undefined},
    {ZYDIS_MNEMONIC_UD2, undefined},
    {ZYDIS_MNEMONIC_VERR, verr},
    {ZYDIS_MNEMONIC_VERW, verw},
    {ZYDIS_MNEMONIC_WBINVD, wbinvd},
    {ZYDIS_MNEMONIC_WRFSBASE, wrfsbase},
    {ZYDIS_MNEMONIC_WRGSBASE, wrgsbase},
    {ZYDIS_MNEMONIC_WRMSR, wrmsr},
    {ZYDIS_MNEMONIC_XGETBV, xgetbv},
    {ZYDIS_MNEMONIC_XSETBV, xsetbv},
};
// clang-format on
static_assert(std::ranges::is_sorted(kRows, {}, &Row::mnemonic));

} // namespace

SlowHandler handler(u16 mnemonic, const Op &) {
  const Row *row = std::ranges::lower_bound(kRows, static_cast<ZydisMnemonic>(mnemonic), {}, &Row::mnemonic);
  return row != std::end(kRows) && row->mnemonic == mnemonic ? row->handler : nullptr;
}

} // namespace abyme::soft::system
