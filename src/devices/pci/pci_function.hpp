#pragma once
#include "bus/bus.hpp"
#include "devices/pci/msix.hpp"
#include <array>
#include <atomic>
#include <span>

namespace abyme {

struct PciIdentity {
  u16 vendor = 0xffff;
  u16 device = 0xffff;
  u8 revision = 0;
  u32 class_code = 0; // 24 bits: base class, subclass, programming interface
  u16 subsystem_vendor = 0;
  u16 subsystem = 0;
};

enum class BarKind { Memory32, Memory64, Memory64Prefetchable };

// A type-0 function: its configuration header, BARs, capabilities and interrupts (PCI 3.0 §6). A device derives from
// it, adds its BARs and capabilities in its constructor, and is attached to a slot of a PciHost, which gives the BARs
// their first addresses. Everything but notify() and msix(): with the device lock held, or before any vCPU runs.
class PciFunction {
public:
  static constexpr unsigned kBars = 6;
  static constexpr unsigned kConfigSize = 256;

  PciFunction(Bus &bus, InterruptSink &sink, const PciIdentity &identity);
  virtual ~PciFunction();
  PciFunction(const PciFunction &) = delete;
  PciFunction &operator=(const PciFunction &) = delete;

  [[nodiscard]] u32 config_read(unsigned offset, unsigned size);
  void config_write(unsigned offset, unsigned size, u32 value);

  // Memory BAR `index` (a 64-bit one takes index + 1 too) of `size` bytes, a power of two from 16 on, whose accesses
  // reach `block`.
  void add_bar(unsigned index, BarKind kind, u64 size, RegisterBlock &block);
  [[nodiscard]] u64 bar_size(unsigned index) const {
    return bars_[index].size;
  } // 0: none, or the upper half of a 64-bit one
  // Where the BAR points, whether or not it is decoded; where it is decoded, if it is.
  [[nodiscard]] Gpa bar_address(unsigned index) const;
  [[nodiscard]] std::optional<Gpa> bar_mapping(unsigned index) const { return bars_[index].mapped; }
  [[nodiscard]] RegisterBlock *bar_block(unsigned index) const { return bars_[index].block; }
  // The host's part: the address that the BAR has after reset.
  void assign_bar(unsigned index, Gpa address);
  void connect_intx(IrqLine &line, u8 interrupt_line);

  void reset();

protected:
  // Appends a capability: its ID and link, then `body`. `writable` has the body's length, a set bit for each that the
  // guest may write; empty for a read-only one. Returns where the capability starts in configuration space.
  u8 add_capability(u8 id, std::span<const u8> body, std::span<const u8> writable = {});
  // Accesses that lie inside [offset, offset + size) of configuration space reach `block` (say, the window of virtio's
  // PCI_CFG capability).
  void overlay_config(u8 offset, u8 size, RegisterBlock &block);
  [[nodiscard]] std::span<const u8, kConfigSize> config() const { return config_; }

  // MSI-X with `vectors` vectors, whose table and PBA fill BAR `bar` (32-bit) by themselves.
  void add_msix(unsigned bar, unsigned vectors);
  [[nodiscard]] Msix *msix() { return msix_ ? &*msix_ : nullptr; }
  [[nodiscard]] bool msix_enabled() const { return msix_enabled_; }
  // Sends (or leaves pending) an MSI-X vector; from any thread, no lock needed. Like any write by the function it needs
  // Bus Master Enable in the command register. False when MSI-X is disabled: then the device uses set_intx().
  bool notify(unsigned vector);
  // For the device: what is its own to reset, after configuration space was; and word that bar_mapping() may have
  // changed.
  virtual void reset_device() {}
  virtual void bars_changed() {}
  // The INTA# wire; stays low while MSI-X is enabled or Interrupt Disable is set (then only the status bit shows it).
  void set_intx(bool level);
  [[nodiscard]] bool bus_master() const;

public:
  struct State {
    std::array<u8, kConfigSize> config{};
    bool intx = false;
    Msix::State msix;
    bool operator==(const State &) const = default;
  };
  [[nodiscard]] State save_function() const;
  void restore_function(const State &state);

private:
  struct Bar {
    BarKind kind = BarKind::Memory32;
    u64 size = 0;
    u64 assigned = 0; // address after reset
    RegisterBlock *block = nullptr;
    std::optional<Gpa> mapped;
  };
  struct Overlay {
    unsigned offset, size;
    RegisterBlock *block;
  };
  [[nodiscard]] const Overlay *overlay_at(unsigned offset, unsigned size) const;
  [[nodiscard]] u32 load(unsigned offset, unsigned size) const;
  void store(unsigned offset, unsigned size, u32 value);
  [[nodiscard]] u16 command() const { return static_cast<u16>(load(4, 2)); }
  void store_bar(unsigned index, u64 address);
  void apply_config();
  void map_bars();
  void drive_intx();

  Bus &bus_;
  InterruptSink &sink_;
  std::array<u8, kConfigSize> config_{};
  std::array<u8, kConfigSize> initial_{};  // what reset() puts back
  std::array<u8, kConfigSize> writable_{}; // a set bit for each that the guest may write
  std::array<Bar, kBars> bars_;
  std::vector<Overlay> overlays_;
  unsigned last_capability_ = 0; // 0: none yet
  unsigned capability_end_ = 0x40;
  std::optional<Msix> msix_;
  unsigned msix_capability_ = 0;
  std::atomic<bool> msix_enabled_ = false; // read by notify() without the device lock
  IrqLine *intx_line_ = nullptr;
  bool intx_ = false;
};

} // namespace abyme
