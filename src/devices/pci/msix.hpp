#pragma once
#include "bus/device.hpp"
#include "vcpu/engine.hpp"
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

namespace abyme {

struct MsiMessage {
  u64 address = 0;
  u32 data = 0;
  bool operator==(const MsiMessage &) const = default;
};

// The vector table and pending bits of an MSI-X capability (PCI 3.0 §6.8.2), as one BAR: the table at 0, the PBA at
// pba_offset(). Safe from any thread: its own lock is a leaf below the device lock.
class Msix final : public RegisterBlock {
public:
  struct Entry {
    MsiMessage message;
    u32 control = kMasked;
    bool pending = false;
    bool operator==(const Entry &) const = default;
  };
  struct State {
    std::vector<Entry> entries;
    bool operator==(const State &) const = default;
  };
  static constexpr u32 kMasked = 1;
  static constexpr unsigned kMaxVectors = 2048;

  Msix(InterruptSink &sink, unsigned vectors);
  [[nodiscard]] unsigned vectors() const { return static_cast<unsigned>(entries_.size()); }
  [[nodiscard]] u32 pba_offset() const;
  [[nodiscard]] u64 bar_size() const; // a power of two, at least a page

  // Sends the vector's message, or leaves it pending while masked. Nothing while MSI-X is disabled, or for a vector
  // that is not there.
  void notify(unsigned vector);
  // What notify() would send now; nothing while it is disabled or masked.
  [[nodiscard]] std::optional<MsiMessage> message(unsigned vector) const;
  // Called, without the leaf lock but with the device lock, when message(vector) may have changed.
  void on_change(std::function<void(unsigned vector)> listener) { listener_ = std::move(listener); }

  // From the capability's message control and the function's command register.
  void configure(bool enabled, bool function_masked);
  void reset();

  [[nodiscard]] u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;
  [[nodiscard]] State save() const;
  void restore(const State &state); // the entries beyond its own number are left out

private:
  [[nodiscard]] bool deliverable(const Entry &entry) const {
    return enabled_ && !function_masked_ && !(entry.control & kMasked);
  }
  void send_if_pending(Entry &entry); // under mutex_
  [[nodiscard]] u32 read_dword(u64 offset) const;
  void write_dword(u64 offset, u32 value);
  void changed(unsigned vector) const {
    if (listener_) listener_(vector);
  }

  InterruptSink &sink_;
  std::function<void(unsigned)> listener_;
  mutable std::mutex mutex_; // guards what follows
  std::vector<Entry> entries_;
  bool enabled_ = false;
  bool function_masked_ = false;
};

} // namespace abyme
