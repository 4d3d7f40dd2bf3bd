#include "memory/guest_memory.hpp"
#include "soft/decode/decoder.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/hostexec/mxcsr.hpp"
#include "soft/hostexec/x87.hpp"
#include "soft/interp/dispatch.hpp"
#include "soft/mmu/access.hpp"
#include "soft/mmu/mmu.hpp"
#include "soft/vmx/vmx.hpp"
#include "x86/cpu_models.hpp"
#include <gtest/gtest.h>
#include <mutex>
#include <vector>

namespace abyme::soft::hostexec {
namespace {

using namespace x86;
using Code = std::vector<u8>;

constexpr u32 kData = 0x8000; // linear, aligned to everything

// A vCPU in flat 32-bit protected mode without paging, CPL 0.
class Hostexec : public ::testing::Test {
protected:
  Hostexec() {
    auto memory = GuestMemory::create(16 << 20);
    memory_ = std::move(*memory);
    profile_ = *make_profile("max", software_cpu_features(), 1);
    cpu.memory = memory_.get();
    cpu.profile = &profile_;
    cpu.mmu = mmu_.get();
    cpu.tlb = &mmu_->tlb;
    cpu.bus_lock = &bus_lock_;
    for (auto &s : cpu.segments) s = {.base = 0, .limit = ~0u, .rights = 0xC093, .selector = 0x10};
    cpu.segments[CS].rights = 0xC09B;
    cpu.segments[CS].selector = 8;
    cpu.rflags_rest = 2;
    cpu.vmx = vmx::create(cpu);
    create(cpu);
    mmu::flush_all(cpu);
    hostexec::reset(cpu);
    cpu.cr0 = cr0::PE | cr0::NE;
    cpu.cr4 = cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
    cpu.xcr0 = profile_.xcr0_mask & 7;
    mode_changed(cpu);
    execute({0xDB, 0xE3}); // FNINIT
  }
  ~Hostexec() override {
    destroy(cpu);
    vmx::destroy(cpu.vmx);
  }

  // Executes one instruction; the vector of its fault, or -1.
  int execute(const Code &code) {
    u8 bytes[16] = {};
    std::copy(code.begin(), code.end(), bytes);
    cpu.fault = {};
    cpu.rip = kRip;
    cpu.gpr[Op::kRipSlot / 8] = kRip;
    Decoder decoder(cpu);
    Op ops[2];
    Extent extent;
    EXPECT_EQ(decoder.decode(cpu, bytes, sizeof bytes, 0, ops[0], extent), Decoded::Instruction);
    ops[1] = {};
    ops[1].handler = end_of_block;
    ops[1].offset = ops[0].length;
    enter(cpu);
    for (const Op *op = ops; op;) op = op->handler(cpu, op);
    leave(cpu);
    const bool done = cpu.fault.kind == Fault::Kind::None;
    EXPECT_EQ(cpu.rip, done ? kRip + ops[0].length : kRip);
    return done ? -1 : cpu.fault.event.vector;
  }

  template <class T> T load(u32 at) {
    T v{};
    EXPECT_TRUE(memory_->load(Gpa(at), v));
    return v;
  }
  template <class T> void store(u32 at, T v) { EXPECT_TRUE(memory_->store(Gpa(at), v)); }
  template <class T> void set_vector(unsigned n, std::initializer_list<T> values) {
    std::copy(values.begin(), values.end(), reinterpret_cast<T *>(cpu.ymm[n]));
  }
  template <class T> T lane(unsigned n, unsigned i) { return reinterpret_cast<const T *>(cpu.ymm[n])[i]; }
  void long_mode() {
    cpu.efer = efer::LMA | efer::LME;
    cpu.segments[CS].rights = 0xA09B;
    mode_changed(cpu);
  }

  static constexpr u64 kRip = 0x1000;
  std::unique_ptr<GuestMemory> memory_;
  CpuProfile profile_;
  std::unique_ptr<mmu::Mmu> mmu_ = std::make_unique<mmu::Mmu>();
  std::mutex bus_lock_;
  std::unique_ptr<Cpu> cpu_ = std::make_unique<Cpu>();
  Cpu &cpu = *cpu_;
};

constexpr int kNone = -1;
const Code kAddps = {0x0F, 0x58, 0xC1};        // ADDPS xmm0, xmm1
const Code kDivps = {0x0F, 0x5E, 0xC1};        // DIVPS xmm0, xmm1
const Code kVaddps = {0xC5, 0xFC, 0x58, 0xC1}; // VADDPS ymm0, ymm0, ymm1
const Code kFld1 = {0xD9, 0xE8};
const Code kFdivp = {0xDE, 0xF9};
const Code kPaddb = {0x0F, 0xFC, 0xC1};            // PADDB mm0, mm1
const Code kAndn = {0xC4, 0xE2, 0x78, 0xF2, 0xC1}; // ANDN eax, eax, ecx

TEST_F(Hostexec, GatesStopEachUnit) {
  EXPECT_EQ(execute(kAddps), kNone);
  cpu.cr0 |= cr0::TS;
  mode_changed(cpu);
  for (const Code &code : {kAddps, kFld1, kPaddb, kVaddps}) EXPECT_EQ(execute(code), NM);
  EXPECT_EQ(execute(kAndn), kNone);
  cpu.cr0 = cr0::PE | cr0::EM;
  mode_changed(cpu);
  EXPECT_EQ(execute(kAddps), UD);
  EXPECT_EQ(execute(kPaddb), UD);
  EXPECT_EQ(execute(kFld1), NM);
  EXPECT_EQ(execute(kVaddps), kNone) << "VEX instructions ignore CR0.EM";
  cpu.cr0 = cr0::PE;
  cpu.cr4 &= ~cr4::OSFXSR;
  mode_changed(cpu);
  EXPECT_EQ(execute(kAddps), UD);
  cpu.xcr0 = 3;
  mode_changed(cpu);
  EXPECT_EQ(execute(kVaddps), UD);
}

TEST_F(Hostexec, VexIsUndefinedInRealMode) {
  cpu.cr0 = 0;
  mode_changed(cpu);
  cpu.segments[CS].rights = 0x9B;
  mode_changed(cpu);
  EXPECT_EQ(execute({0xC5, 0xFC, 0x58, 0xC1}), UD);
  EXPECT_EQ(execute(kAndn), UD);
}

TEST_F(Hostexec, UnmaskedSimdExceptionChangesNothingButFlags) {
  set_vector<float>(0, {1.f, 2.f, 3.f, 4.f});
  set_vector<float>(1, {0.f, 1.f, 1.f, 1.f});
  cpu.mxcsr = kMxcsrReset & ~(kMxcsrDivide << kMxcsrMaskShift);
  update_gates(cpu);
  EXPECT_EQ(execute(kDivps), XM);
  EXPECT_EQ(cpu.mxcsr & kMxcsrFlags, kMxcsrDivide);
  EXPECT_EQ(lane<float>(0, 1), 2.f);
  cpu.cr4 &= ~cr4::OSXMMEXCPT;
  EXPECT_EQ(execute(kDivps), UD);
  set_vector<float>(1, {2.f});
  EXPECT_EQ(execute(kDivps), kNone);
  EXPECT_EQ(lane<float>(0, 0), .5f);
}

TEST_F(Hostexec, FlagsOfMaskedExceptionsStick) {
  set_vector<float>(0, {1.f, 0, 0, 0});
  set_vector<float>(1, {3.f, 1.f, 1.f, 1.f});
  EXPECT_EQ(execute(kDivps), kNone);
  EXPECT_EQ(cpu.mxcsr, kMxcsrReset | 0x20);
  EXPECT_EQ(execute(kAddps), kNone);
  EXPECT_EQ(cpu.mxcsr & 0x20, 0x20u);
}

TEST_F(Hostexec, LdmxcsrRefusesReservedBits) {
  store<u32>(kData, 0x1F80 | 1 << 16);
  EXPECT_EQ(execute({0x0F, 0xAE, 0x15, 0x00, 0x80, 0, 0}), GP);
  store<u32>(kData, 0x9FC0);
  EXPECT_EQ(execute({0x0F, 0xAE, 0x15, 0x00, 0x80, 0, 0}), kNone);
  EXPECT_EQ(cpu.mxcsr, 0x9FC0u);
}

TEST_F(Hostexec, LegacyOperandsMustBeAligned) {
  EXPECT_EQ(execute({0x0F, 0x58, 0x05, 0x04, 0x80, 0, 0}), GP);    // ADDPS xmm0, [8004h]
  EXPECT_EQ(execute({0x0F, 0x10, 0x05, 0x04, 0x80, 0, 0}), kNone); // MOVUPS
  EXPECT_EQ(execute({0x0F, 0x28, 0x05, 0x04, 0x80, 0, 0}), GP);    // MOVAPS
  EXPECT_EQ(execute({0xC5, 0xFC, 0x58, 0x05, 0x04, 0x80, 0, 0}), kNone);
}

TEST_F(Hostexec, OperandsAcrossPagesAreCopied) {
  for (u32 n = 0; n < 32; ++n) store<u8>(0x8FF0 + n, static_cast<u8>(n));
  EXPECT_EQ(execute({0xC5, 0xFE, 0x6F, 0x05, 0xF0, 0x8F, 0, 0}), kNone); // VMOVDQU ymm0, [8FF0h]
  EXPECT_EQ(lane<u8>(0, 31), 31);
  EXPECT_EQ(execute({0xC5, 0xFE, 0x7F, 0x05, 0xF8, 0x9F, 0, 0}), kNone); // VMOVDQU [9FF8h], ymm0
  EXPECT_EQ(load<u8>(0x9FF8 + 31), 31);
}

TEST_F(Hostexec, X87ExceptionIsReportedByTheNextWaitingInstruction) {
  image(cpu).fcw = 0x37B; // zero divide unmasked
  EXPECT_EQ(execute(kFld1), kNone);
  EXPECT_EQ(execute({0xD9, 0xEE}), kNone); // FLDZ
  EXPECT_EQ(execute(kFdivp), kNone);
  EXPECT_TRUE(image(cpu).fsw & kFswSummary);
  EXPECT_EQ(execute({0xDF, 0xE0}), kNone); // FNSTSW AX
  EXPECT_EQ(cpu.gpr[RAX] & 0x84, 0x84u);
  EXPECT_EQ(execute(kFld1), MF);
  EXPECT_EQ(execute({0x9B}), MF);
  EXPECT_EQ(execute(kPaddb), MF);
  cpu.cr0 &= ~cr0::NE; // as if IGNNE# were asserted
  EXPECT_EQ(execute(kFld1), kNone);
  EXPECT_TRUE(image(cpu).fsw & kFswSummary);
  EXPECT_EQ(image(cpu).fcw, 0x37B);
  EXPECT_EQ(execute({0xDB, 0xE2}), kNone); // FNCLEX
  cpu.cr0 |= cr0::NE;
  EXPECT_EQ(execute(kFld1), kNone);
}

TEST_F(Hostexec, X87PointersAreTheGuests) {
  store<double>(kData, 2.5);
  EXPECT_EQ(execute({0xDD, 0x05, 0x00, 0x80, 0, 0}), kNone); // FLD m64
  EXPECT_EQ(image(cpu).fip, kRip);
  EXPECT_EQ(image(cpu).fdp, kData);
  EXPECT_EQ(image(cpu).fop, 0x505);
  EXPECT_EQ(execute({0xD9, 0x35, 0x00, 0x90, 0, 0}), kNone); // FNSTENV [9000h]
  EXPECT_EQ(load<u32>(0x9000), 0xFFFF037Fu);
  EXPECT_EQ(load<u32>(0x9008), 0xFFFF3FFFu);
  EXPECT_EQ(load<u32>(0x900C), kRip);
  EXPECT_EQ(load<u32>(0x9010), 0x505u << 16 | 8);
  EXPECT_EQ(load<u32>(0x9014), kData);
  EXPECT_EQ(load<u32>(0x9018), 0xFFFF0010u);
}

TEST_F(Hostexec, EnvironmentOfRealMode) {
  store<double>(kData, 2.5);
  EXPECT_EQ(execute({0xDD, 0x05, 0x00, 0x80, 0, 0}), kNone);
  cpu.cr0 = cr0::NE;
  cpu.segments[CS].rights = 0x9B;
  cpu.x87_cs = 0xF000;
  cpu.x87_ds = 0x1234;
  mode_changed(cpu);
  EXPECT_EQ(execute({0xD9, 0x36, 0x00, 0x90}), kNone); // FNSTENV [9000h], 16-bit
  EXPECT_EQ(load<u16>(0x9006), 0x1000);
  EXPECT_EQ(load<u16>(0x9008), 0xF000 | 0x505);
  EXPECT_EQ(load<u16>(0x900A), 0xA340);
  EXPECT_EQ(load<u16>(0x900C), 0x1000);
}

TEST_F(Hostexec, FsaveAndFrstorGiveTheStackBack) {
  EXPECT_EQ(execute(kFld1), kNone);
  EXPECT_EQ(execute({0xD9, 0xEB}), kNone); // FLDPI
  const X87Image before = image(cpu);
  EXPECT_EQ(execute({0xDD, 0x35, 0x00, 0x90, 0, 0}), kNone); // FNSAVE
  EXPECT_EQ(image(cpu).fcw, kFcwReset);
  EXPECT_EQ(image(cpu).tags, 0);
  EXPECT_EQ(execute({0xDD, 0x25, 0x00, 0x90, 0, 0}), kNone); // FRSTOR
  EXPECT_EQ(image(cpu).tags, before.tags);
  EXPECT_EQ(image(cpu).fsw, before.fsw);
  EXPECT_EQ(std::memcmp(image(cpu).st, before.st, sizeof before.st), 0);
}

TEST_F(Hostexec, XsavecAndXrstorKeepWhatIsInUse) {
  cpu.gpr[RAX] = 7;
  cpu.gpr[RDX] = 0;
  set_vector<u64>(3, {1, 2, 3, 4});
  EXPECT_EQ(execute({0x0F, 0xC7, 0x25, 0x00, 0x90, 0, 0}), kNone); // XSAVEC
  EXPECT_EQ(load<u64>(0x9000 + 512), 6u) << "x87 is in its initial configuration";
  EXPECT_EQ(load<u64>(0x9000 + 520), 1ull << 63 | 7);
  set_vector<u64>(3, {9, 9, 9, 9});
  EXPECT_EQ(execute(kFld1), kNone);
  EXPECT_EQ(execute({0x0F, 0xAE, 0x2D, 0x00, 0x90, 0, 0}), kNone); // XRSTOR
  EXPECT_EQ(lane<u64>(3, 0), 1u);
  EXPECT_EQ(lane<u64>(3, 3), 4u);
  EXPECT_EQ(image(cpu).tags, 0);
}

TEST_F(Hostexec, XrstorChecksTheHeader) {
  const Code xrstor = {0x0F, 0xAE, 0x2D, 0x00, 0x90, 0, 0};
  cpu.gpr[RAX] = 7;
  cpu.gpr[RDX] = 0;
  EXPECT_EQ(execute({0x0F, 0xAE, 0x25, 0x00, 0x90, 0, 0}), kNone); // XSAVE
  EXPECT_EQ(execute(xrstor), kNone);
  const u64 good = load<u64>(0x9000 + 512);
  store<u64>(0x9000 + 512, good | 1 << 5);
  EXPECT_EQ(execute(xrstor), GP);
  store<u64>(0x9000 + 512, good);
  store<u64>(0x9000 + 528, 1);
  EXPECT_EQ(execute(xrstor), GP);
  store<u64>(0x9000 + 528, 0);
  store<u64>(0x9000 + 520, 1ull << 63);
  if (good) {
    EXPECT_EQ(execute(xrstor), GP);
  }
  store<u64>(0x9000 + 520, 0);
  store<u32>(0x9000 + 24, 1 << 20);
  EXPECT_EQ(execute(xrstor), GP);
  EXPECT_EQ(execute({0x0F, 0xAE, 0x2D, 0x20, 0x90, 0, 0}), GP) << "alignment";
}

TEST_F(Hostexec, DecimalAdjustments) {
  cpu.gpr[RAX] = 0x0B;
  cpu.status = 0;
  EXPECT_EQ(execute({0x37}), kNone); // AAA
  EXPECT_EQ(cpu.gpr[RAX] & 0xFFFF, 0x101u);
  EXPECT_TRUE(rflags(cpu) & rflags::CF);
  cpu.gpr[RAX] = 0x9C;
  cpu.status = 0;
  EXPECT_EQ(execute({0x27}), kNone); // DAA
  EXPECT_EQ(cpu.gpr[RAX] & 0xFF, 0x02u);
  cpu.gpr[RAX] = 123;
  EXPECT_EQ(execute({0xD4, 10}), kNone); // AAM
  EXPECT_EQ(cpu.gpr[RAX] & 0xFFFF, 0x0C03u);
  EXPECT_EQ(execute({0xD5, 10}), kNone); // AAD
  EXPECT_EQ(cpu.gpr[RAX] & 0xFFFF, 123u);
  EXPECT_EQ(execute({0xD4, 0}), DE);
}

TEST_F(Hostexec, RegistersOfGeneralInstructionsAreTheGuests) {
  cpu.gpr[RSP] = 0xF0F0;
  cpu.gpr[RCX] = 0xFF00;
  EXPECT_EQ(execute({0xF3, 0x0F, 0xB8, 0xC4}), kNone); // POPCNT eax, esp
  EXPECT_EQ(cpu.gpr[RAX], 8u);
  EXPECT_EQ(execute({0xF3, 0x0F, 0xB8, 0xE1}), kNone); // POPCNT esp, ecx
  EXPECT_EQ(cpu.gpr[RSP], 8u);
  EXPECT_EQ(execute({0xC4, 0xE2, 0x70, 0xF2, 0xC4}), kNone); // ANDN eax, ecx, esp
  EXPECT_EQ(cpu.gpr[RAX], 8u);
}

TEST_F(Hostexec, FeaturesThatTheProfileLacksAreUndefined) {
  profile_.features.reset(static_cast<size_t>(Feature::avx2));
  EXPECT_EQ(execute({0xC5, 0xFD, 0xFC, 0xC1}), UD);    // VPADDB ymm
  EXPECT_EQ(execute({0xC5, 0xF9, 0xFC, 0xC1}), kNone); // VPADDB xmm is AVX
}

TEST_F(Hostexec, GatherStopsWhereItFaults) {
  cpu.segments[DS].limit = 0x8FFF;
  mode_changed(cpu);
  store<u32>(kData, 11);
  set_vector<u32>(1, {0, 0x4000, 0, 0});
  set_vector<u32>(2, {~0u, ~0u, ~0u, ~0u});
  cpu.gpr[RBX] = kData;
  EXPECT_EQ(execute({0xC4, 0xE2, 0x69, 0x90, 0x04, 0x0B}), GP); // VPGATHERDD xmm0, [ebx+xmm1], xmm2
  EXPECT_EQ(lane<u32>(0, 0), 11u);
  EXPECT_EQ(lane<u32>(2, 0), 0u);
  EXPECT_EQ(lane<u32>(2, 1), ~0u);
  EXPECT_EQ(execute({0xC4, 0xE2, 0x71, 0x90, 0x04, 0x0B}), UD) << "mask and index the same";
}

TEST_F(Hostexec, ClearForgetsStubs) {
  for (unsigned n = 0; n < 3; ++n) {
    EXPECT_EQ(execute(kAddps), kNone);
    clear(cpu);
    EXPECT_FALSE(full(cpu));
  }
}

} // namespace
} // namespace abyme::soft::hostexec
