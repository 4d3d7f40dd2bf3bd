#include "emulated.hpp"
#include "memory/guest_memory.hpp"
#include "native.hpp"
#include "soft/cpu.hpp"
#include "soft/decode/decoder.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/hostexec/x87.hpp"
#include "soft/interp/dispatch.hpp"
#include "soft/interp/handlers.hpp"
#include "soft/mmu/access.hpp"
#include "soft/mmu/mmu.hpp"
#include "soft/vmx/vmx.hpp"
#include <cstdio>
#include <cstdlib>

namespace abyme::differential {

using namespace soft;
using namespace x86;

namespace {

// Guest-physical places.
constexpr u64 kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kDataPt = 0x4000, kCodePt = 0x5000;
constexpr u64 kDataAt = 0x10000, kCodeAt = 0x20000;
constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kUsed = 0x60; // accessed and dirty

void put(GuestMemory &memory, u64 at, u64 value) {
  if (!memory.store(Gpa(at), value)) std::abort();
}

void map_page(GuestMemory &memory, u64 table, u64 linear, u64 physical, u64 rights) {
  put(memory, kPml4 + (linear >> 39 & 511) * 8, kPdpt | kPresent | kWritable | kUser | kUsed);
  put(memory, kPdpt + (linear >> 30 & 511) * 8, kPd | kPresent | kWritable | kUser | kUsed);
  put(memory, kPd + (linear >> 21 & 511) * 8, table | kPresent | kWritable | kUser | kUsed);
  put(memory, table + (linear >> 12 & 511) * 8, physical | kPresent | kUser | kUsed | rights);
}

void enter_user_mode(Cpu &cpu, u64 fs_base) {
  cpu.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::AM | cr0::PG;
  cpu.cr3 = kPml4;
  cpu.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
  cpu.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
  cpu.xcr0 = cpu.profile->xcr0_mask & 7;
  cpu.cpl = 3;
  for (const auto seg : {SS, DS, ES}) cpu.segments[seg] = {.base = 0, .limit = ~0u, .rights = 0xC0F3, .selector = 0x2B};
  for (const auto seg : {FS, GS}) cpu.segments[seg] = {.base = 0, .limit = ~0u, .rights = 0x1C0F3, .selector = 0};
  cpu.segments[FS].base = fs_base;
  cpu.segments[GS].base = Native::kGsBase;
}

} // namespace

struct Emulated::Machine {
  std::unique_ptr<GuestMemory> memory;
  std::unique_ptr<mmu::Mmu> mmu = std::make_unique<mmu::Mmu>();
  std::unique_ptr<Cpu> cpu = std::make_unique<Cpu>();
  std::mutex bus_lock;
  u8 *data = nullptr, *code = nullptr;
};

Emulated::Emulated(const CpuProfile &profile, u64 fs_base) : machine_(std::make_unique<Machine>()) {
  auto memory = GuestMemory::create(16 << 20);
  if (!memory) std::abort();
  machine_->memory = std::move(*memory);
  GuestMemory &m = *machine_->memory;
  for (unsigned page = 0; page < 2; ++page) {
    map_page(m, kDataPt, kData + page * kPage, kDataAt + page * kPage, kWritable);
    map_page(m, kCodePt, kCode + page * kPage, kCodeAt + page * kPage, 0);
  }
  machine_->data = m.host(Gpa(kDataAt), kDataSize);
  machine_->code = m.host(Gpa(kCodeAt), kCodeSize);
  Cpu &cpu = *machine_->cpu;
  cpu.memory = &m;
  cpu.profile = &profile;
  cpu.mmu = machine_->mmu.get();
  cpu.tlb = &machine_->mmu->tlb;
  cpu.bus_lock = &machine_->bus_lock;
  cpu.segments[Op::kFlat] = {.base = 0, .limit = ~0u, .rights = 0xC093, .selector = 0};
  cpu.vmx = vmx::create(cpu);
  hostexec::create(cpu);
  mmu::flush_all(cpu);
  hostexec::reset(cpu);
  enter_user_mode(cpu, fs_base);
}

Emulated::~Emulated() {
  hostexec::destroy(*machine_->cpu);
  vmx::destroy(machine_->cpu->vmx);
}

namespace {

void load(Cpu &cpu, const State &s) {
  std::memcpy(cpu.gpr, s.gpr, sizeof s.gpr);
  cpu.rip = s.rip;
  cpu.gpr[Op::kRipSlot / 8] = s.rip & ~0xFFFull;
  set_rflags(cpu, s.rflags);
  std::memcpy(cpu.ymm, s.ymm, sizeof s.ymm);
  cpu.mxcsr = s.mxcsr;
  auto &x = hostexec::image(cpu);
  x.fcw = s.fcw;
  x.fsw = s.fsw;
  x.tags = s.tags;
  x.fop = s.fop;
  x.fip = s.fip;
  x.fdp = s.fdp;
  std::memcpy(x.st, s.st, sizeof s.st);
  cpu.x87_cs = cpu.x87_ds = 0;
  cpu.fault = {};
  cpu.shadow = 0;
  cpu.attention = 0;
  mode_changed(cpu);
  cpu.attention = 0;
}

void store(Cpu &cpu, State &s) {
  std::memcpy(s.gpr, cpu.gpr, sizeof s.gpr);
  s.rip = cpu.rip;
  s.rflags = soft::rflags(cpu);
  std::memcpy(s.ymm, cpu.ymm, sizeof s.ymm);
  s.mxcsr = cpu.mxcsr;
  const auto &x = hostexec::image(cpu);
  s.fcw = x.fcw;
  s.fsw = x.fsw;
  s.tags = x.tags;
  s.fop = x.fop;
  s.fip = x.fip;
  s.fdp = x.fdp;
  std::memcpy(s.st, x.st, sizeof s.st);
}

} // namespace

void Emulated::run(const Case &c, Outcome &out) {
  Cpu &cpu = *machine_->cpu;
  std::memcpy(machine_->data, c.data, kDataSize);
  std::memset(machine_->code, 0xCC, kCodeSize);
  std::memcpy(machine_->code + c.code_offset, c.code, c.length);
  if (c.compatible)
    cpu.segments[CS] = {.base = 0, .limit = ~0u, .rights = 0xC0FB, .selector = 0x23};
  else
    cpu.segments[CS] = {.base = 0, .limit = ~0u, .rights = 0xA0FB, .selector = 0x33};
  load(cpu, c.before);
  if (hostexec::full(cpu)) hostexec::clear(cpu);
  hostexec::enter(cpu);
  Op ops[2];
  Extent extent;
  Decoder decoder(cpu);
  const auto decoded =
      decoder.decode(cpu, c.code, sizeof c.code, static_cast<u16>(c.before.rip & 0xFFF), ops[0], extent);
  if (decoded != Decoded::Instruction) std::abort();
  Link link{};
  if (extent.links) ops[0].data = &link;
  ops[1] = {};
  ops[1].handler = end_of_block;
  ops[1].offset = static_cast<u16>(ops[0].offset + ops[0].length);
  for (const Op *op = ops; op;) op = op->handler(cpu, op);
  hostexec::leave(cpu);
  store(cpu, out.state);
  std::memcpy(out.data, machine_->data, kDataSize);
  const Fault &f = cpu.fault;
  out.stop = {};
  if (f.kind == Fault::Kind::None) return;
  const bool exception = f.kind == Fault::Kind::Exception;
  out.stop = {true, exception ? f.event.vector : static_cast<u8>(0xFF), f.event.error, f.event.address};
}

} // namespace abyme::differential
