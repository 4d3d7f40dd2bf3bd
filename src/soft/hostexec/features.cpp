#include "soft/hostexec/features.hpp"
#include <algorithm>
#include <array>
#include <optional>

namespace abyme::soft::hostexec {
namespace {

using F = x86::Feature;

struct Row {
  ZydisISASet set;
  F feature;
};

// Instruction sets and the CPUID bit of each (SDM 1 chapter 5, 2A CPUID).
constexpr auto kRows = std::to_array<Row>({
    {ZYDIS_ISA_SET_ADOX_ADCX, F::adx},
    {ZYDIS_ISA_SET_AES, F::aes},
    {ZYDIS_ISA_SET_AVX, F::avx},
    {ZYDIS_ISA_SET_AVX2, F::avx2},
    {ZYDIS_ISA_SET_AVX2GATHER, F::avx2},
    {ZYDIS_ISA_SET_AVXAES, F::aes},
    {ZYDIS_ISA_SET_AVX_GFNI, F::gfni},
    {ZYDIS_ISA_SET_BMI1, F::bmi1},
    {ZYDIS_ISA_SET_BMI2, F::bmi2},
    {ZYDIS_ISA_SET_CLFLUSHOPT, F::clflushopt},
    {ZYDIS_ISA_SET_CLFSH, F::clflush},
    {ZYDIS_ISA_SET_CLWB, F::clwb},
    {ZYDIS_ISA_SET_CMOV, F::cmov},
    {ZYDIS_ISA_SET_CMPXCHG16B, F::cx16},
    {ZYDIS_ISA_SET_F16C, F::f16c},
    {ZYDIS_ISA_SET_FCMOV, F::cmov},
    {ZYDIS_ISA_SET_FMA, F::fma},
    {ZYDIS_ISA_SET_FXSAVE, F::fxsr},
    {ZYDIS_ISA_SET_FXSAVE64, F::fxsr},
    {ZYDIS_ISA_SET_GFNI, F::gfni},
    {ZYDIS_ISA_SET_LZCNT, F::abm},
    {ZYDIS_ISA_SET_MOVBE, F::movbe},
    {ZYDIS_ISA_SET_PCLMULQDQ, F::pclmulqdq},
    {ZYDIS_ISA_SET_PENTIUMMMX, F::mmx},
    {ZYDIS_ISA_SET_POPCNT, F::popcnt},
    {ZYDIS_ISA_SET_RDRAND, F::rdrand},
    {ZYDIS_ISA_SET_RDSEED, F::rdseed},
    {ZYDIS_ISA_SET_SHA, F::sha_ni},
    {ZYDIS_ISA_SET_SSE, F::sse},
    {ZYDIS_ISA_SET_SSE2, F::sse2},
    {ZYDIS_ISA_SET_SSE2MMX, F::sse2},
    {ZYDIS_ISA_SET_SSE3, F::sse3},
    {ZYDIS_ISA_SET_SSE3X87, F::sse3},
    {ZYDIS_ISA_SET_SSE4, F::sse4_1},
    {ZYDIS_ISA_SET_SSE42, F::sse4_2},
    {ZYDIS_ISA_SET_SSEMXCSR, F::sse},
    {ZYDIS_ISA_SET_SSE_PREFETCH, F::sse},
    {ZYDIS_ISA_SET_SSSE3, F::ssse3},
    {ZYDIS_ISA_SET_SSSE3MMX, F::ssse3},
    {ZYDIS_ISA_SET_VAES, F::vaes},
    {ZYDIS_ISA_SET_VPCLMULQDQ, F::vpclmulqdq},
    {ZYDIS_ISA_SET_X87, F::fpu},
    {ZYDIS_ISA_SET_XSAVE, F::xsave},
    {ZYDIS_ISA_SET_XSAVEC, F::xsavec},
    {ZYDIS_ISA_SET_XSAVEOPT, F::xsaveopt},
    {ZYDIS_ISA_SET_XSAVES, F::xsaves},
});

// Part of every CPU here.
constexpr auto kAlways = std::to_array<ZydisISASet>({
    ZYDIS_ISA_SET_FAT_NOP,
    ZYDIS_ISA_SET_I186,
    ZYDIS_ISA_SET_I386,
    ZYDIS_ISA_SET_I486,
    ZYDIS_ISA_SET_I486REAL,
    ZYDIS_ISA_SET_I86,
    ZYDIS_ISA_SET_LAHF,
    ZYDIS_ISA_SET_LONGMODE,
    ZYDIS_ISA_SET_PAUSE,
    ZYDIS_ISA_SET_PENTIUMREAL,
    ZYDIS_ISA_SET_PPRO,
    ZYDIS_ISA_SET_PREFETCH_NOP,
});

std::optional<F> feature_of(ZydisISASet set) {
  const auto *row = std::ranges::find(kRows, set, &Row::set);
  return row == kRows.end() ? std::nullopt : std::optional(row->feature);
}

bool has_vector_operand(const ZydisDecodedInstruction &i) {
  return i.meta.isa_set != ZYDIS_ISA_SET_BMI1 && i.meta.isa_set != ZYDIS_ISA_SET_BMI2;
}

} // namespace

bool available(const x86::CpuProfile &profile, const ZydisDecodedInstruction &i) {
  if (i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
    if (has_vector_operand(i) && !profile.has(F::avx)) return false;
  } else if (i.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
    return false;
  }
  if (std::ranges::find(kAlways, i.meta.isa_set) != kAlways.end()) return true;
  const auto feature = feature_of(i.meta.isa_set);
  return feature && profile.has(*feature);
}

} // namespace abyme::soft::hostexec
