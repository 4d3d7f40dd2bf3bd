#pragma once
#include "memory/guest_memory.hpp"
#include "soft/apic/apic_bus.hpp"
#include "soft/apic/local_apic.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/mmu/mmu.hpp"
#include "soft/system/descriptor.hpp"
#include "soft/system/system.hpp"
#include "soft/vmx/vmx.hpp"
#include "x86/cpu_models.hpp"
#include <functional>
#include <gtest/gtest.h>

// For tests: one vCPU over 4 MiB of RAM with a GDT, an IDT and a TSS, in any mode and at any level, without code to
// run.
namespace abyme::soft::system {

// The bits of a descriptor that tests vary.
struct Flags {
  bool big = false, is_long = false, page_granular = false, present = true;
};
constexpr u64 make_descriptor(u32 base, u32 limit, unsigned type, unsigned dpl, bool system, Flags f = {}) {
  return (limit & 0xFFFF) | static_cast<u64>(base & 0xFFFFFF) << 16 | static_cast<u64>(type) << 40 |
         static_cast<u64>(!system) << 44 | static_cast<u64>(dpl) << 45 | static_cast<u64>(f.present) << 47 |
         static_cast<u64>(limit >> 16 & 15) << 48 | static_cast<u64>(f.is_long) << 53 | static_cast<u64>(f.big) << 54 |
         static_cast<u64>(f.page_granular) << 55 | static_cast<u64>(base >> 24) << 56;
}
constexpr u64 make_gate(u16 selector, u32 offset, unsigned type, unsigned dpl, unsigned low = 0, bool present = true) {
  return (offset & 0xFFFF) | static_cast<u64>(selector) << 16 | static_cast<u64>(low) << 32 |
         static_cast<u64>(type) << 40 | static_cast<u64>(dpl) << 45 | static_cast<u64>(present) << 47 |
         static_cast<u64>(offset >> 16) << 48;
}

constexpr u64 kPresentBit = 1ull << 47;

class TestMachine : CpuSignals, EoiListener {
public:
  // Selectors.
  static constexpr u16 kCode0 = 0x08, kData0 = 0x10, kCode3 = 0x18 | 3, kData3 = 0x20 | 3, kCode64 = 0x28,
                       kCode64User = 0x30 | 3, kTss = 0x38, kLdt = 0x48, kConforming = 0x58, kCode16 = 0x60,
                       kSpare = 0x68, kReadOnly = 0x78, kExecuteOnly = 0x80, kAbsentData = 0x88, kTss2 = 0x90,
                       kCallGate = 0xA0 | 3, kCode64Two = 0xB0;
  // Where things lie.
  static constexpr u64 kGdt = 0x1000, kIdt = 0x2000, kTssBase = 0x4000, kTss2Base = 0x4800, kLdtBase = 0x5000;
  static constexpr u64 kStack0 = 0x8000, kStack3 = 0x9000, kIst1 = 0xA000, kHandler = 0xB000, kCode = 0xC000,
                       kScratch = 0xD000, kPaging = 0x20000;
  static constexpr u32 kGdtLimit = 0xFF;

  explicit TestMachine(std::string_view model = "max")
      : memory_(std::move(*GuestMemory::create(4_MiB))),
        profile_(*x86::make_profile(model, x86::software_cpu_features(), 1)), mmu_(std::make_unique<mmu::Mmu>()),
        timers_(clock_), owned_(std::make_unique<Cpu>()),
        apic_({.id = 0, .bsp = true, .physical_bits = profile_.physical_bits}, bus_, *this, timers_, *this),
        cpu(*owned_) {
    cpu.memory = memory_.get();
    cpu.profile = &profile_;
    cpu.mmu = mmu_.get();
    cpu.tlb = &mmu_->tlb;
    cpu.clock = &clock_;
    cpu.apic = &apic_;
    cpu.segments[Op::kFlat] = {0, ~0u, 0xC093, 0};
    cpu.vmx = vmx::create(cpu);
    hostexec::create(cpu);
    mmu::flush_all(cpu);
    system::reset(cpu);
    fill_tables();
    cpu.gdtr = {kGdt, kGdtLimit};
    cpu.idtr = {0, 0x3FF};
    cpu.rip = kCode;
    cpu.next_rip = kCode + 2;
  }
  ~TestMachine() {
    hostexec::destroy(cpu);
    vmx::destroy(cpu.vmx);
  }

  // --- modes: flat segments, interrupts on ---
  void real_mode() {
    CpuState s = common();
    for (unsigned i = 0; i < x86::kSegments; i++) s.segments[i] = {0, 0xFFFF, i == x86::CS ? 0x9Bu : 0x93u, 0};
    s.gpr[x86::RSP] = kStack0;
    s.idtr = {0, 0x3FF};
    apply(s);
  }
  void protected_mode(unsigned cpl = 0) {
    CpuState s = common();
    s.cr0 = x86::cr0::PE;
    s.idtr = {kIdt, 0x7FF};
    load(s, cpl ? kCode3 : kCode0, cpl ? kData3 : kData0);
    s.gpr[x86::RSP] = cpl ? kStack3 : kStack0;
    s.tr = {kTssBase, 0x67, 0x8B, kTss};
    apply(s);
  }
  void v86_mode(unsigned iopl = 3) {
    protected_mode(3);
    CpuState s = get_state(cpu);
    for (auto &segment : s.segments) segment = {0, 0xFFFF, 0xF3, 0};
    s.rflags = 0x202 | x86::rflags::VM | iopl << 12;
    apply(s);
  }
  void long_mode(unsigned cpl = 0) {
    CpuState s = common();
    s.cr0 = x86::cr0::PE | x86::cr0::PG;
    s.cr3 = kPaging;
    s.cr4 = x86::cr4::PAE;
    s.efer = x86::efer::LME | x86::efer::SCE;
    s.idtr = {kIdt, 0xFFF};
    load(s, cpl ? kCode64User : kCode64, cpl ? kData3 : kData0);
    s.gpr[x86::RSP] = cpl ? kStack3 : kStack0;
    s.tr = {kTssBase, 0x67, 0x8B, kTss};
    apply(s);
  }
  void compatibility_mode(unsigned cpl = 3) {
    long_mode(cpl);
    cpu.segments[x86::CS] = segment(cpl ? kCode3 : kCode0);
    mode_changed(cpu);
  }

  // --- memory ---
  template <class T> T load(u64 at) {
    T value{};
    EXPECT_TRUE(memory_->read(Gpa(at), &value, sizeof value));
    return value;
  }
  template <class T> void store(u64 at, T value) { EXPECT_TRUE(memory_->write(Gpa(at), &value, sizeof value)); }
  u64 descriptor(u16 selector) { return load<u64>(kGdt + (selector & ~7u)); }
  void set_descriptor(u16 selector, u64 raw) { store<u64>(kGdt + (selector & ~7u), raw); }
  void change_descriptor(u16 selector, u64 clear, u64 set) {
    set_descriptor(selector, (descriptor(selector) & ~clear) | set);
  }
  x86::Segment segment(u16 selector) { return Descriptor{descriptor(selector), 0, 0}.segment(selector); }
  void set_gate(u8 vector, u64 raw) { store<u64>(kIdt + vector * 8u, raw); }
  void set_gate64(u8 vector, u64 raw, u64 offset_high = 0) {
    store<u64>(kIdt + vector * 16u, raw);
    store<u64>(kIdt + vector * 16u + 8, offset_high);
  }
  u64 stack(unsigned item, unsigned size = 8) {
    u64 value = 0;
    EXPECT_TRUE(memory_->read(Gpa(cpu.segments[x86::SS].base + cpu.gpr[x86::RSP] + item * size), &value, size));
    return value;
  }
  void push(std::initializer_list<u64> items, unsigned size) {
    for (u64 item : items) {
      cpu.gpr[x86::RSP] -= size;
      EXPECT_TRUE(memory_->write(Gpa(cpu.segments[x86::SS].base + cpu.gpr[x86::RSP]), &item, size));
    }
  }

  // --- instructions ---
  static Op op(unsigned size, u8 reg_index = 0) {
    Op o{};
    o.base = o.index = Op::kZeroSlot;
    o.segment = Op::kFlat;
    o.reg = x86::RDX * 8;
    o.rm = x86::RAX * 8;
    o.size = static_cast<u8>(size);
    o.address_size = 8;
    o.length = 2;
    o.reg_index = reg_index;
    return o;
  }
  static Op memory_op(unsigned size, u64 at, u8 reg_index = 0) {
    Op o = op(size, reg_index);
    o.flags = kOpMemory;
    o.disp = static_cast<i32>(at);
    return o;
  }
  Outcome run(SlowHandler handler, const Op &o) {
    cpu.fault.kind = Fault::Kind::None;
    return handler(cpu, o);
  }

private:
  using CpuState = x86::CpuState;

  CpuState common() {
    CpuState s = get_state(cpu);
    s.rflags = 0x202;
    s.rip = kCode;
    s.cr0 = s.cr3 = s.cr4 = s.efer = 0;
    return s;
  }
  void load(CpuState &s, u16 code, u16 data) {
    for (unsigned i = 0; i < x86::kSegments; i++) s.segments[i] = segment(i == x86::CS ? code : data);
  }
  void apply(const CpuState &s) {
    set_state(cpu, s);
    cpu.next_rip = cpu.rip + 2;
  }
  void fill_tables() {
    constexpr Flags k32{.big = true, .is_long = false, .page_granular = true, .present = true};
    constexpr Flags k64{.big = false, .is_long = true, .page_granular = true, .present = true};
    set_descriptor(kCode0, make_descriptor(0, 0xFFFFF, 11, 0, false, k32));
    set_descriptor(kData0, make_descriptor(0, 0xFFFFF, 3, 0, false, k32));
    set_descriptor(kCode3, make_descriptor(0, 0xFFFFF, 11, 3, false, k32));
    set_descriptor(kData3, make_descriptor(0, 0xFFFFF, 3, 3, false, k32));
    set_descriptor(kCode64, make_descriptor(0, 0xFFFFF, 11, 0, false, k64));
    set_descriptor(kCode64Two, make_descriptor(0, 0xFFFFF, 10, 0, false, k64));
    set_descriptor(kCode64User, make_descriptor(0, 0xFFFFF, 11, 3, false, k64));
    set_descriptor(kTss, make_descriptor(kTssBase, 0x67, system::kTss32, 0, true));
    set_descriptor(kLdt, make_descriptor(kLdtBase, 0xFF, system::kLdt, 0, true));
    set_descriptor(kConforming, make_descriptor(0, 0xFFFFF, 15, 0, false, k32));
    set_descriptor(kCode16, make_descriptor(0, 0xFFFF, 11, 0, false));
    set_descriptor(kReadOnly, make_descriptor(0, 0xFFFFF, 1, 0, false, k32));
    set_descriptor(kExecuteOnly, make_descriptor(0, 0xFFFFF, 9, 0, false, k32));
    set_descriptor(kAbsentData, make_descriptor(0, 0xFFFFF, 3, 0, false, {.present = false}));
    set_descriptor(kTss2, make_descriptor(kTss2Base, 0x67, system::kTss32, 0, true));
    // Stacks of the TSS, as its 32-bit and its 64-bit layout find them.
    store<u32>(kTssBase + 4, kStack0);
    store<u32>(kTssBase + 8, kData0);
    store<u16>(kTssBase + 0x66, 0x68);
    constexpr u64 kPresentWritableUser = 7, kLarge = 1 << 7;
    store<u64>(kPaging, (kPaging + 0x1000) | kPresentWritableUser);
    store<u64>(kPaging + 0x1000, (kPaging + 0x2000) | kPresentWritableUser);
    for (u64 i = 0; i < 512; i++) store<u64>(kPaging + 0x2000 + i * 8, i << 21 | kLarge | kPresentWritableUser);
  }

  void interrupt() override {}
  void nmi() override {}
  void init() override {}
  void sipi(u8) override {}
  Nanoseconds time_of_tsc(u64 tsc) override { return tsc; }
  void end_of_interrupt(u8) override {}

  std::unique_ptr<GuestMemory> memory_;
  x86::CpuProfile profile_;
  std::unique_ptr<mmu::Mmu> mmu_;
  FakeClock clock_;
  FakeTimers timers_;
  std::unique_ptr<Cpu> owned_;
  ApicBus bus_;
  LocalApic apic_;

public:
  Cpu &cpu;
  FakeClock &clock() { return clock_; }
  LocalApic &apic() { return apic_; }
  x86::CpuProfile &profile() { return profile_; }
};

// A transfer that works, changed in one way so that one rule fails.
struct FaultCase {
  const char *name;
  std::function<void(TestMachine &)> change;
  u8 vector;
  i64 error; // -1: none
};

inline void expect_fault(const Cpu &cpu, u8 vector, i64 error) {
  EXPECT_EQ(cpu.fault.kind, Fault::Kind::Exception);
  EXPECT_EQ(cpu.fault.event.vector, vector);
  EXPECT_EQ(cpu.fault.event.has_error, error >= 0);
  if (error >= 0) {
    EXPECT_EQ(cpu.fault.event.error, static_cast<u32>(error));
  }
}

} // namespace abyme::soft::system
