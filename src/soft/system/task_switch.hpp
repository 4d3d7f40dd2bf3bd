#pragma once
#include "soft/system/descriptor.hpp"

// Hardware task switches (SDM 3A §7.3). They do not exist in IA-32e mode.
namespace abyme::soft::system {

enum class TaskSource : u8 { Call = 0, Iret = 1, Jump = 2, Gate = 3 }; // numbers of the VM-exit qualification

struct TaskSwitch {
  u16 selector = 0;
  TaskSource source = TaskSource::Jump;
  u64 return_rip = 0; // saved in the old TSS
  u32 ext = 0;
  bool push_error = false;
  u32 error = 0;
  const Op *op = nullptr; // the instruction, null for an event
};

// True: switched (or a VM exit happened): cpu.rip is where to go on. False: cpu.fault. Faults that are found after the
// switch has been committed leave the new task's state, as the manual says.
[[nodiscard]] bool switch_task(Cpu &cpu, const TaskSwitch &how);
// The TSS descriptor that a JMP, CALL or task gate names, checked as the source demands.
[[nodiscard]] bool read_tss_descriptor(Cpu &cpu, const TaskSwitch &how, Descriptor &tss);

} // namespace abyme::soft::system
