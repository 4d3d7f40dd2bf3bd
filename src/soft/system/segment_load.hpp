#pragma once
#include "soft/system/descriptor.hpp"

// Loading segment registers (SDM 3A §5.6 to §5.8).
namespace abyme::soft::system {

// Loads ES, SS, DS, FS or GS as MOV to it does, in any mode. False: cpu.fault, nothing changed.
[[nodiscard]] bool load_segment(Cpu &cpu, u8 segment, u16 selector);
// Without checks, as real mode and virtual-8086 mode load: the base is 16 times the selector.
void load_real_segment(Cpu &cpu, u8 segment, u16 selector);
void load_v86_segment(Cpu &cpu, u8 segment, u16 selector);
void load_null_segment(Cpu &cpu, u8 segment, u16 selector);

// How the checks of an SS differ with who loads it: the level it must have, the vector of failures other than "not
// present", EXT.
struct StackRule {
  u8 cpl;
  u8 vector = x86::GP;
  u32 ext = 0;
};
// Reads and checks the descriptor of a new SS (not null), marked accessed.
[[nodiscard]] bool read_stack_segment(Cpu &cpu, u16 selector, StackRule rule, Descriptor &d);
// SS of a level that the selector, perhaps null, gives: what inter-level returns and task switches in IA-32e mode load.
[[nodiscard]] x86::Segment null_stack_segment(u16 selector, u8 cpl);

// DS, ES, FS and GS that outer code may not use become null (return to an outer level, SDM 3A §5.8.6).
void drop_inner_segments(Cpu &cpu);

// CS and CPL.
void load_cs(Cpu &cpu, const Descriptor &d, u16 selector, u8 cpl);

} // namespace abyme::soft::system
