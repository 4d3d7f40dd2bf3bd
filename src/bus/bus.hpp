#pragma once
#include "bus/device.hpp"
#include "vcpu/engine.hpp"
#include <array>
#include <memory>
#include <mutex>
#include <vector>

namespace abyme {

// Routes port and memory accesses to register blocks. What nobody claims reads as all ones and swallows writes, as on a
// PC. An access that lies inside one block reaches it whole; one that straddles is split into bytes, each routed by
// itself.
//
// One device lock for the whole machine: dispatch holds it, and so must every timer or event callback that touches a
// device. Lock order: the device lock, then a device's own leaf lock (MSI-X), then a local APIC's.
class Bus final : public IoHandler {
public:
  Bus();
  [[nodiscard]] std::unique_lock<std::mutex> lock() { return std::unique_lock(mutex_); }
  [[nodiscard]] std::unique_lock<std::mutex> try_lock() { return std::unique_lock(mutex_, std::try_to_lock); }

  // The four below: with the lock held, or before any vCPU runs. Ranges may overlap (a guest programs BARs as it
  // likes); the older one wins.
  void add_ports(u16 base, u32 count, RegisterBlock &block);
  void remove_ports(u16 base, RegisterBlock &block);
  void add_mmio(Gpa start, u64 size, RegisterBlock &block); // size > 0; a range that would pass 2^64 ends there
  void remove_mmio(Gpa start, RegisterBlock &block);

  [[nodiscard]] u32 port_read(u16 port, unsigned size) override;
  void port_write(u16 port, unsigned size, u32 value) override;
  [[nodiscard]] u64 mmio_read(Gpa at, unsigned size) override;
  void mmio_write(Gpa at, unsigned size, u64 value) override;

private:
  struct Range { // both ends included
    u64 first, last;
    u64 origin; // where offset 0 of the block lies
    RegisterBlock *block;
  };
  struct Space {
    std::vector<Range> claims; // in order of age
    std::vector<Range> view;   // disjoint, sorted: what an access finds
    void add(u64 first, u64 last, RegisterBlock &block);
    void remove(u64 first, RegisterBlock &block);
    void rebuild();
    [[nodiscard]] const Range *find(u64 at) const;
  };
  using PortTable = std::array<u16, 65536>;
  void rebuild_port_table();
  [[nodiscard]] const Range *find_port(u64 port) const {
    const u16 index = (*port_table_)[port & 0xffff];
    return index == 0 ? nullptr : &ports_.view[index - 1];
  }
  [[nodiscard]] const Range *find(bool is_port, u64 at) const { return is_port ? find_port(at) : mmio_.find(at); }
  [[nodiscard]] u64 read(bool is_port, u64 at, unsigned size);
  void write(bool is_port, u64 at, unsigned size, u64 value);

  std::mutex mutex_; // the device lock; also guards what follows
  Space ports_, mmio_;
  std::unique_ptr<PortTable> port_table_; // port → 1 + index into ports_.view
};

} // namespace abyme
