#include "kvm/vm.hpp"
#include "base/log.hpp"
#include "kvm/ioctl.hpp"
#include <algorithm>
#include <cstring>

namespace abyme::kvm {
namespace {

// Pins of the I/O APIC, which the machine has: KVM reserves their GSIs, and reports the EOI of level-triggered vectors
// that stand in their routes.
constexpr u32 kIoapicPins = 24;
constexpr u32 kMostRoutes = 1024;
constexpr u32 kLevelTriggered = 1u << 15; // of a message's data (SDM 3A §11.11.2)

// Below the top of 4 GiB, in the hole, where nothing else of the machine lies. Only CPUs without unrestricted guest use
// them.
constexpr u64 kIdentityMap = 0xFFFB'C000;
constexpr u64 kTss = 0xFFFB'D000; // three pages

kvm_irq_routing_entry msi_route(u32 gsi, u64 address, u32 data) {
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_MSI;
  entry.u.msi.address_lo = static_cast<u32>(address);
  entry.u.msi.address_hi = static_cast<u32>(address >> 32);
  entry.u.msi.data = data;
  return entry;
}

bool same_message(const kvm_irq_routing_entry &e, u64 address, u32 data) {
  return e.u.msi.address_lo == static_cast<u32>(address) && e.u.msi.address_hi == static_cast<u32>(address >> 32) &&
         e.u.msi.data == data;
}

} // namespace

Result<std::unique_ptr<Vm>> Vm::create(const System &system, const GuestMemory &memory) {
  std::unique_ptr<Vm> vm(new Vm(system, memory));
  vm->fd_ = Fd(control(system.fd(), KVM_CREATE_VM, 0));
  if (!vm->fd_) return fail_errno("KVM cannot make a VM (KVM_CREATE_VM)");
  if (auto done = vm->set_up_irqchip(); !done) return std::unexpected(done.error());
  if (auto done = vm->map_memory(0); !done) return std::unexpected(done.error());
  return vm;
}

Result<void> Vm::set_up_irqchip() {
  u64 identity_map = kIdentityMap;
  if (system_.capability(KVM_CAP_SET_IDENTITY_MAP_ADDR) && control(fd(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0)
    return fail_errno("KVM_SET_IDENTITY_MAP_ADDR");
  if (system_.capability(KVM_CAP_SET_TSS_ADDR) && control(fd(), KVM_SET_TSS_ADDR, kTss) < 0)
    return fail_errno("KVM_SET_TSS_ADDR");
  kvm_enable_cap split{};
  split.cap = KVM_CAP_SPLIT_IRQCHIP;
  split.args[0] = kIoapicPins;
  if (control(fd(), KVM_ENABLE_CAP, &split) < 0) return fail_errno("KVM cannot split its interrupt controllers");
  return {};
}

Result<void> Vm::map_memory(u32 flags) {
  u32 slot = 0;
  for (const auto &region : memory_.regions()) {
    kvm_userspace_memory_region r{};
    r.slot = slot++;
    r.flags = flags;
    r.guest_phys_addr = region.start.value;
    r.memory_size = region.size;
    r.userspace_addr = reinterpret_cast<u64>(region.host);
    if (control(fd(), KVM_SET_USER_MEMORY_REGION, &r) < 0)
      return fail_errno(fmt::format("KVM cannot map {} MiB of memory at {:#x}", region.size >> 20, region.start.value));
  }
  return {};
}

bool Vm::update_routes() {
  Table<PaddedCount, kvm_irq_routing_entry> table(routes_.size());
  std::ranges::transform(routes_, table.entries().begin(), [](const auto &route) { return route.second; });
  return control(fd(), kSetGsiRouting, table.head()) == 0;
}

// KVM exits for the EOI of a vector only if a pin's route names it. We learn the pins' messages as they are sent.
void Vm::note_level_message(u64 address, u32 data) {
  const std::lock_guard lock(routes_mutex_);
  for (auto it = routes_.begin(); it != routes_.lower_bound(kIoapicPins); ++it)
    if (same_message(it->second, address, data)) return;
  const u32 pin = next_level_slot_++ % kIoapicPins;
  routes_[pin] = msi_route(pin, address, data);
  if (!update_routes()) log::warn("KVM refuses an interrupt route: {}", std::strerror(errno));
}

void Vm::message(u64 address, u32 data) {
  if (data & kLevelTriggered) note_level_message(address, data);
  kvm_msi msi{};
  msi.address_lo = static_cast<u32>(address);
  msi.address_hi = static_cast<u32>(address >> 32);
  msi.data = data;
  // A message that no LAPIC accepts is lost, as on hardware.
  if (control(fd(), KVM_SIGNAL_MSI, &msi) < 0)
    log::debug("message {:#x}={:#x}: {}", address, data, std::strerror(errno));
}

bool Vm::attach_doorbell(Gpa at, unsigned size, int event_fd, bool attach) {
  if (system_.capability(KVM_CAP_IOEVENTFD) == 0) return false;
  kvm_ioeventfd doorbell{};
  doorbell.addr = at.value;
  doorbell.len = size;
  doorbell.fd = event_fd;
  doorbell.flags = attach ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN;
  return control(fd(), KVM_IOEVENTFD, &doorbell) == 0;
}

bool Vm::attach_irqfd(int event_fd, u64 address, u32 data) {
  if (system_.capability(KVM_CAP_IRQFD) == 0) return false;
  const std::lock_guard lock(routes_mutex_);
  if (irqfds_.contains(event_fd)) return false;
  u32 gsi = kIoapicPins;
  while (routes_.contains(gsi)) ++gsi;
  if (gsi >= kMostRoutes) return false;
  routes_[gsi] = msi_route(gsi, address, data);
  kvm_irqfd request{};
  request.fd = static_cast<u32>(event_fd);
  request.gsi = gsi;
  if (!update_routes() || control(fd(), KVM_IRQFD, &request) < 0) {
    routes_.erase(gsi);
    return false;
  }
  irqfds_[event_fd] = gsi;
  return true;
}

void Vm::detach_irqfd(int event_fd) {
  const std::lock_guard lock(routes_mutex_);
  const auto at = irqfds_.find(event_fd);
  if (at == irqfds_.end()) return;
  kvm_irqfd request{};
  request.fd = static_cast<u32>(event_fd);
  request.gsi = at->second;
  request.flags = KVM_IRQFD_FLAG_DEASSIGN;
  if (control(fd(), KVM_IRQFD, &request) < 0) log::warn("KVM keeps an irqfd: {}", std::strerror(errno));
  routes_.erase(at->second);
  irqfds_.erase(at);
  if (!update_routes()) log::warn("KVM refuses its interrupt routes: {}", std::strerror(errno));
}

Result<void> Vm::log_dirty_pages(bool on) { return map_memory(on ? KVM_MEM_LOG_DIRTY_PAGES : 0); }

Result<std::vector<u64>> Vm::take_dirty_pages(u32 region) {
  std::vector<u64> bitmap((memory_.regions()[region].size / kPageSize + 63) / 64);
  kvm_dirty_log request{};
  request.slot = region;
  request.dirty_bitmap = bitmap.data();
  if (control(fd(), KVM_GET_DIRTY_LOG, &request) < 0) return fail_errno("KVM_GET_DIRTY_LOG");
  return bitmap;
}

} // namespace abyme::kvm
