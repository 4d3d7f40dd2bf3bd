#include "soft/mmu/access.hpp"
#include "soft/system/instructions.hpp"
#include "soft/vmx/vmx.hpp"

// INVLPG, INVPCID, and cache control, which has nothing to do where there is no cache but the host's.
namespace abyme::soft::system {

using namespace x86;
using vmx::Instruction;

Outcome invlpg(Cpu &cpu, const Op &op) {
  if (!(op.flags & kOpMemory)) return raise(cpu, UD);
  if (!privileged(cpu)) return Outcome::Fault;
  // No check of the segment's limit or type is made; outside of 64-bit mode its base counts (SDM 2A INVLPG).
  u64 linear = effective_address(cpu, op);
  if (op.segment < kSegments) linear += cpu.code64() && op.segment < FS ? 0 : cpu.segments[op.segment].base;
  if (!cpu.code64()) linear &= 0xFFFFFFFF;
  if (vmx::intercepts(cpu, op, Instruction::Invlpg, linear)) return Outcome::Branch;
  if (canonical(cpu, linear)) mmu::flush_page(cpu, linear);
  return end_block(cpu);
}

namespace {

struct InvpcidDescriptor {
  u64 pcid;
  u64 linear;
};

// SDM 2A INVPCID: reserved bits, PCIDs without CR4.PCIDE, addresses.
bool valid(const Cpu &cpu, u64 type, const InvpcidDescriptor &d) {
  bool names_pcid = type <= 1;
  if (type > 3 || d.pcid >> 12) return false;
  if (names_pcid && !(cpu.cr4 & cr4::PCIDE) && d.pcid) return false;
  return type != 0 || canonical(cpu, d.linear);
}

} // namespace

Outcome invpcid(Cpu &cpu, const Op &op) {
  if (!cpu.profile->has(Feature::invpcid) || !vmx::enabled_in_guest(cpu, Instruction::Invpcid) ||
      !(op.flags & kOpMemory))
    return raise(cpu, UD);
  if (cpu.v86()) return raise(cpu, GP, 0);
  if (!privileged(cpu)) return Outcome::Fault;
  if (vmx::intercepts(cpu, op, Instruction::Invpcid)) return Outcome::Branch;
  InvpcidDescriptor d;
  if (!read_operand(cpu, op, &d, sizeof d)) return Outcome::Fault;
  u64 type = read_register(cpu, op.reg, cpu.code64() ? 8 : 4);
  if (!valid(cpu, type, d)) return raise(cpu, GP, 0);
  mmu::invalidate_pcid(cpu, static_cast<mmu::InvpcidType>(type), static_cast<u16>(d.pcid), d.linear);
  return end_block(cpu);
}

Outcome invd(Cpu &cpu, const Op &op) {
  if (!privileged(cpu)) return Outcome::Fault;
  return vmx::intercepts(cpu, op, Instruction::Invd) ? Outcome::Branch : Outcome::Next;
}

Outcome wbinvd(Cpu &cpu, const Op &op) {
  if (!privileged(cpu)) return Outcome::Fault;
  return vmx::intercepts(cpu, op, Instruction::Wbinvd) ? Outcome::Branch : Outcome::Next;
}

namespace {

// They fault as a load of the byte does.
Outcome touch_line(Cpu &cpu, const Op &op, Feature feature) {
  if (!cpu.profile->has(feature)) return raise(cpu, UD);
  u64 linear;
  return outcome(operand_linear(cpu, op, 1, false, linear) && probe_read(cpu, linear, 1), Outcome::Next);
}

} // namespace

Outcome clflush(Cpu &cpu, const Op &op) { return touch_line(cpu, op, Feature::clflush); }
Outcome clflushopt(Cpu &cpu, const Op &op) { return touch_line(cpu, op, Feature::clflushopt); }
Outcome clwb(Cpu &cpu, const Op &op) { return touch_line(cpu, op, Feature::clwb); }

} // namespace abyme::soft::system
