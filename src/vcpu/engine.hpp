#pragma once
#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/timers.hpp"
#include "memory/guest_memory.hpp"
#include "x86/cpu_profile.hpp"
#include "x86/state.hpp"
#include <memory>
#include <string>
#include <variant>

// What an engine (kvm, soft) is to the machine, and what the machine is to an engine. LAPICs belong to the engine (KVM's are in the
// kernel); PIC, I/O APIC and everything behind them belong to the machine.
namespace abyme {

// The machine's side of port and memory-mapped I/O. Called on vCPU threads.
class IoHandler {
public:
  virtual ~IoHandler() = default;
  [[nodiscard]] virtual u32 port_read(u16 port, unsigned size) = 0;           // size 1, 2 or 4
  virtual void port_write(u16 port, unsigned size, u32 value) = 0;
  [[nodiscard]] virtual u64 mmio_read(Gpa at, unsigned size) = 0;             // size 1, 2, 4 or 8
  virtual void mmio_write(Gpa at, unsigned size, u64 value) = 0;
};

// The PIC pair, as LINT0/ExtINT sees it. Called on vCPU 0's thread.
class ExternalInterrupts {
public:
  virtual ~ExternalInterrupts() = default;
  [[nodiscard]] virtual bool pending() = 0;
  [[nodiscard]] virtual u8 acknowledge() = 0; // the INTA cycle: the vector
};

// The I/O APIC, told of the EOI of a level-triggered vector.
class EoiListener {
public:
  virtual ~EoiListener() = default;
  virtual void end_of_interrupt(u8 vector) = 0;
};

// Where messages to LAPICs go: MSIs, and the I/O APIC's. Safe from any thread.
class InterruptSink {
public:
  virtual ~InterruptSink() = default;
  virtual void message(u64 address, u32 data) = 0; // SDM 3A §11.11
  virtual void external_interrupt_changed() = 0;   // ExternalInterrupts::pending() may have changed
};

// How a vCPU's run() ended.
struct Stopped {};     // stop() was called
struct TripleFault {}; // shutdown of this vCPU outside of VMX non-root operation
struct InternalError { // an impossible state: names it, with a dump of the vCPU
  std::string message;
};
using VcpuExit = std::variant<Stopped, TripleFault, InternalError>;

class Vcpu {
public:
  virtual ~Vcpu() = default;
  // Runs, on the caller's thread, through halts and waits for SIPI, until something ends it.
  [[nodiscard]] virtual VcpuExit run() = 0;
  // Only while run() is not under way.
  virtual void set_state(const x86::CpuState &state) = 0;
  [[nodiscard]] virtual x86::CpuState state() const = 0;
  // Guest instructions retired so far, where the engine can count them (soft), else 0.
  [[nodiscard]] virtual u64 instructions() const { return 0; }
};

struct EngineConfig {
  unsigned cpus = 1;
  GuestMemory &memory;
  const x86::CpuProfile &profile;
  IoHandler &io;
  ExternalInterrupts &pic;
  EoiListener &ioapic;
  TimerService &timers;
};

class Engine : public InterruptSink {
public:
  [[nodiscard]] virtual std::string_view name() const = 0;
  // vCPU 0 starts in reset_state(); the others wait for INIT and SIPI.
  [[nodiscard]] virtual Vcpu &vcpu(unsigned index) = 0;
  // Makes each vCPU's run() return Stopped soon: the one under way, else its next one. A later run() goes on from there. Safe from any
  // thread, and from within an IoHandler.
  virtual void stop() = 0;
  // A write of `size` bytes to `at` becomes a signal on the eventfd and no IoHandler call. False where the engine cannot; then the write
  // reaches the IoHandler as any other.
  [[nodiscard]] virtual bool attach_doorbell(Gpa at, unsigned size, int event_fd) = 0;
  virtual void detach_doorbell(Gpa at, unsigned size, int event_fd) = 0;
  // A signal on the eventfd becomes the message, without a thread in between. False where the engine cannot.
  [[nodiscard]] virtual bool attach_irqfd(int event_fd, u64 address, u32 data) = 0;
  virtual void detach_irqfd(int event_fd) = 0;
};

} // namespace abyme
