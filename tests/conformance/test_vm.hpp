#pragma once
#include "conformance/engines.hpp"
#include "conformance/guest_code.hpp"
#include <chrono>
#include <functional>
#include <future>
#include <mutex>

namespace abyme::conformance {

// Where the guests of this suite find things in their 16 MiB.
namespace layout {
constexpr u64 kGdt = 0x500, kTss = 0x600, kIdt = 0x1000, kPageTables = 0x2000; // six pages: the first 4 GiB, identity
constexpr u64 kStackTop = 0x9000;
constexpr u64 kCode = 0x10000;
constexpr u64 kData = 0x20000;
constexpr u64 kMemory = 16 << 20;
constexpr u64 kMmio = 0xD000'0000; // in the hole: the machine's to answer
constexpr u16 kDonePort = 0xF4;    // a write ends the run
constexpr u16 kCode64 = 0x08, kData64 = 0x10, kCode32 = 0x18, kData32 = 0x20, kTssSelector = 0x28;
} // namespace layout

struct Access {
  bool write;
  bool port;
  u64 at;
  unsigned size;
  u64 value; // written, or answered
  bool operator==(const Access &) const = default;
};
void PrintTo(const Access &access, std::ostream *out);

// A PC with nothing in it but an engine: it records every access and answers what the test says.
class TestVm final : IoHandler, ExternalInterrupts, EoiListener {
public:
  explicit TestVm(const EngineRow &row, unsigned cpus = 1);

  GuestMemory &memory() { return *memory_; }
  Engine &engine() { return *engine_; }
  template <class T> [[nodiscard]] T load(u64 at) const {
    T value{};
    EXPECT_TRUE(memory_->load(Gpa(at), value));
    return value;
  }
  template <class T> void store(u64 at, T value) { EXPECT_TRUE(memory_->store(Gpa(at), value)); }
  void load(GuestCode &code) { EXPECT_TRUE(code.load(*memory_)) << "the guest's code does not assemble"; }
  void load_bytes(u64 at, std::initializer_list<u8> bytes) {
    EXPECT_TRUE(memory_->write(Gpa(at), std::data(bytes), bytes.size()));
  }

  // Puts a GDT, an IDT, a TSS and page tables into memory, and gives the state in which code at `rip` starts in 64-bit
  // mode.
  [[nodiscard]] x86::CpuState long_mode(u64 rip);
  // Real mode, all segments at 0.
  [[nodiscard]] static x86::CpuState real_mode(u64 rip);
  // A 64-bit interrupt gate.
  void set_gate(u8 vector, u64 handler);

  // Runs a vCPU until something ends it; one that does not end within ten seconds fails the test.
  VcpuExit run(unsigned index = 0);
  [[nodiscard]] x86::CpuState state(unsigned index = 0) { return engine_->vcpu(index).state(); }

  // What reads answer; all ones unless the test says otherwise.
  std::function<u64(const Access &)> on_read;
  std::function<void(const Access &)> on_write;
  [[nodiscard]] std::vector<Access> accesses();
  void raise_external_interrupt(u8 vector); // until acknowledged
  [[nodiscard]] std::vector<u8> ended_interrupts();

private:
  u64 record(Access access);
  u32 port_read(u16 port, unsigned size) override;
  void port_write(u16 port, unsigned size, u32 value) override;
  u64 mmio_read(Gpa at, unsigned size) override;
  void mmio_write(Gpa at, unsigned size, u64 value) override;
  bool pending() override;
  u8 acknowledge() override;
  void end_of_interrupt(u8 vector) override;

  HostClock clock_;
  std::unique_ptr<TimerService> timers_ = make_host_timers(clock_);
  std::unique_ptr<GuestMemory> memory_;
  x86::CpuProfile profile_;
  std::mutex mutex_; // over the three below
  std::vector<Access> accesses_;
  std::optional<u8> external_;
  std::vector<u8> ended_;
  std::unique_ptr<Engine> engine_;
};

} // namespace abyme::conformance
