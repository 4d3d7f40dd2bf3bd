#pragma once
#include "kvm/system.hpp"
#include "memory/guest_memory.hpp"
#include <linux/kvm.h>
#include <map>
#include <mutex>

namespace abyme::kvm {

// One VM of the kernel's: its memory slots, interrupt routes and eventfds. Every method but create is safe from any
// thread.
class Vm {
public:
  [[nodiscard]] static Result<std::unique_ptr<Vm>> create(const System &system, const GuestMemory &memory);

  [[nodiscard]] int fd() const { return fd_.get(); }
  // Delivers a message to the LAPICs.
  void message(u64 address, u32 data);
  [[nodiscard]] bool attach_doorbell(Gpa at, unsigned size, int event_fd, bool attach);
  [[nodiscard]] bool attach_irqfd(int event_fd, u64 address, u32 data);
  void detach_irqfd(int event_fd);

  // From now on (or no longer) KVM notes which pages the guest writes.
  [[nodiscard]] Result<void> log_dirty_pages(bool on);
  // The pages of a region of memory written since logging began or the last call: bit n of the array is page n.
  [[nodiscard]] Result<std::vector<u64>> take_dirty_pages(u32 region);

private:
  Vm(const System &system, const GuestMemory &memory) : system_(system), memory_(memory) {}
  [[nodiscard]] Result<void> set_up_irqchip();
  [[nodiscard]] Result<void> map_memory(u32 flags);
  [[nodiscard]] bool update_routes(); // with routes_mutex_ held
  void note_level_message(u64 address, u32 data);

  const System &system_;
  const GuestMemory &memory_;
  Fd fd_;
  std::mutex routes_mutex_;                     // over the three below; innermost
  std::map<u32, kvm_irq_routing_entry> routes_; // by GSI
  std::map<int, u32> irqfds_;                   // eventfd to GSI
  u32 next_level_slot_ = 0;
};

} // namespace abyme::kvm
