#include "soft/interp/forms.hpp"
#include "soft/decode/block_cache.hpp"
#include <mutex>

namespace abyme::soft {

Located locate_any(Cpu &cpu, const Op *op, unsigned size, bool write) {
  u64 linear = 0;
  const bool ok = operand_linear(cpu, *op, size, write, linear);
  return {linear, ok};
}

u8 *locked_pointer(Cpu &cpu, u64 linear, unsigned size) { return host_pointer(cpu, linear, size, true); }

// Locked accesses that have no single host address (across pages, MMIO, pages with code) exclude one another only.
void lock_memory(Cpu &cpu) { cpu.bus_lock->lock(); }
void unlock_memory(Cpu &cpu) { cpu.bus_lock->unlock(); }

} // namespace abyme::soft
