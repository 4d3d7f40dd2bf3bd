#pragma once
#include "soft/system/stack.hpp"

// What far RET and IRET have in common: the code and stack that they return to.
namespace abyme::soft::system {

struct Return {
  u64 rip = 0;
  u16 cs = 0, ss = 0;
  u64 rsp = 0;
  Descriptor code;
  x86::Segment stack;
  [[nodiscard]] u8 cpl() const { return cs & 3; }
  [[nodiscard]] bool to_64(const Cpu &cpu) const { return cpu.long_mode() && code.is_long(); }
};

// The checks of CS and RIP: null, limit, type, privilege, presence; RIP in the limit, or canonical.
[[nodiscard]] bool read_return_code(Cpu &cpu, Return &to);
[[nodiscard]] bool check_return_rip(Cpu &cpu, const Return &to);
// Those of SS at the level returned to.
[[nodiscard]] bool read_return_stack(Cpu &cpu, Return &to);
// Loads CS:RIP and, when `with_stack`, SS:RSP; data segments of inner levels become null.
void commit_return(Cpu &cpu, const Return &to, bool with_stack);

} // namespace abyme::soft::system
