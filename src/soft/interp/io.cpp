// IN, OUT, INS, OUTS.
#include "soft/interp/handlers.hpp"
#include "soft/interp/string_unit.hpp"
#include "soft/mmu/watch.hpp"
#include "soft/system/system.hpp"
#include "soft/tracer.hpp"
#include "soft/vmx/vmx.hpp"
#include "vcpu/engine.hpp"

namespace abyme::soft {
namespace {

using namespace x86;

// op.imm is the port of an immediate form, -1 for DX.
u16 port_of(const Cpu &cpu, const Op &op) { return static_cast<u16>(op.imm < 0 ? cpu.gpr[RDX] : static_cast<u64>(op.imm)); }

vmx::IoAccess access_of(const Cpu &cpu, const Op &op, bool in) {
  return {.port = port_of(cpu, op), .size = op.size, .in = in, .string = false, .rep = false, .immediate = op.imm >= 0, .linear = 0};
}

Outcome in(Cpu &cpu, const Op &op) {
  const vmx::IoAccess access = access_of(cpu, op, true);
  if (!system::io_allowed(cpu, access.port, op.size)) return Outcome::Fault;
  if (vmx::intercepts_io(cpu, op, access)) return Outcome::Branch;
  mmu::note_io(cpu, access.port, op.size);
  const u32 value = cpu.io->port_read(access.port, op.size);
  trace(cpu, kTraceIo, "in {:#x}: {:#x}", access.port, value);
  switch (op.size) {
  case 1: reg<u8>(cpu, 0) = static_cast<u8>(value); break;
  case 2: reg<u16>(cpu, 0) = static_cast<u16>(value); break;
  default: set_reg<u32>(cpu, 0, value);
  }
  return Outcome::Next;
}

Outcome out(Cpu &cpu, const Op &op) {
  const vmx::IoAccess access = access_of(cpu, op, false);
  if (!system::io_allowed(cpu, access.port, op.size)) return Outcome::Fault;
  if (vmx::intercepts_io(cpu, op, access)) return Outcome::Branch;
  mmu::note_io(cpu, access.port, op.size);
  const u32 mask = op.size == 4 ? ~0u : (1u << (op.size * 8)) - 1;
  trace(cpu, kTraceIo, "out {:#x}: {:#x}", access.port, static_cast<u32>(cpu.gpr[RAX]) & mask);
  cpu.io->port_write(access.port, op.size, static_cast<u32>(cpu.gpr[RAX]) & mask);
  return Outcome::Next;
}

template <bool In> Outcome string_io(Cpu &cpu, const Op &op) {
  const StringUnit u(cpu, op);
  const bool rep = op.flags & (kOpRep | kOpRepne);
  vmx::IoAccess access{.port = static_cast<u16>(cpu.gpr[RDX]), .size = op.size, .in = In, .string = true, .rep = rep, .immediate = false, .linear = 0};
  if (!system::io_allowed(cpu, access.port, op.size)) return Outcome::Fault;
  for (u64 count = rep ? u.count(cpu) : 1; count != 0; count--) {
    if (!(In ? u.destination_linear(cpu, true, access.linear) : u.source_linear(cpu, false, access.linear))) return Outcome::Fault;
    if (vmx::intercepts_io(cpu, op, access)) return Outcome::Branch;
    if constexpr (In) {
      if (!probe_write(cpu, access.linear, op.size)) return Outcome::Fault; // the port must not be read for nothing
      const u32 value = cpu.io->port_read(access.port, op.size);
      trace(cpu, kTraceIo, "ins {:#x}: {:#x}", access.port, value);
      if (!u.write_destination(cpu, value)) return Outcome::Fault;
    } else {
      u64 value = 0;
      if (!u.read_source(cpu, value)) return Outcome::Fault;
      trace(cpu, kTraceIo, "outs {:#x}: {:#x}", access.port, value);
      cpu.io->port_write(access.port, op.size, static_cast<u32>(value));
    }
    mmu::note_io(cpu, access.port, op.size);
    u.advance(cpu, 1, !In, In);
    if (rep) u.set_count(cpu, count - 1);
    if (rep && count > 1 && cpu.attention.load(std::memory_order_relaxed)) return Outcome::Branch;
  }
  return Outcome::Next;
}

} // namespace

SlowHandler in_handler() { return in; }
SlowHandler out_handler() { return out; }
SlowHandler ins_handler() { return string_io<true>; }
SlowHandler outs_handler() { return string_io<false>; }

} // namespace abyme::soft
