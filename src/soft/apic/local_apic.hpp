#pragma once
#include "base/address.hpp"
#include "soft/apic/apic_registers.hpp"
#include "soft/apic/apic_timer.hpp"
#include "vcpu/engine.hpp"
#include <array>
#include <mutex>
#include <optional>

namespace abyme::soft {

class ApicBus;

// What a local APIC tells its CPU. Called on any thread, the CPU's own included, with no lock of the APIC's held: set
// attention and wake.
class CpuSignals {
public:
  virtual ~CpuSignals() = default;
  virtual void interrupt() = 0; // pending_vector() or the PIC behind LINT0 may have something
  virtual void nmi() = 0;
  virtual void init() = 0;
  virtual void sipi(u8 vector) = 0;
  // When, on the VM's clock, this CPU's TSC reaches `tsc`; saturates. Called on the CPU's own thread.
  [[nodiscard]] virtual Nanoseconds time_of_tsc(u64 tsc) = 0;
};

// A local APIC: xAPIC and x2APIC (SDM 3A chapter 11). Its registers are read and written by its CPU's thread; accept(),
// the pins and matches() are for any thread. SMI and ExtINT messages have no receiver here: there is no SMM, and the
// PIC is wired to LINT0.
class LocalApic {
public:
  struct Config {
    unsigned id = 0; // number of the vCPU
    bool bsp = false;
    bool x2apic = true;       // offered by the CPU model
    bool tsc_deadline = true; // offered by the CPU model
    u8 physical_bits = 40;
  };
  struct State {
    u64 base = 0;
    u8 xapic_id = 0;
    u8 tpr = 0;
    u32 ldr = 0, dfr = ~0u, svr = 0xff;
    std::array<u32, 8> isr{}, tmr{}, irr{};
    u32 esr = 0, errors = 0; // what ESR reads; what has been noticed since it was last written
    u64 icr = 0;
    std::array<u32, apic::kLvts> lvt{};
    bool lint[2]{}; // levels of the pins
    ApicTimer::State timer;
    bool operator==(const State &) const = default;
  };

  LocalApic(const Config &config, ApicBus &bus, CpuSignals &signals, TimerService &timers, EoiListener &eoi);
  ~LocalApic();
  LocalApic(const LocalApic &) = delete;
  LocalApic &operator=(const LocalApic &) = delete;

  // --- for the CPU's thread ---
  // The vector to be delivered next: the highest in IRR, if its class is above the PPR's.
  [[nodiscard]] std::optional<u8> pending_vector() const;
  // Takes it into service. The spurious vector when there is none (any more).
  [[nodiscard]] u8 acknowledge();
  // Whether the PIC's INTR reaches the CPU: the APIC is disabled in IA32_APIC_BASE, or LINT0 is unmasked and ExtINT.
  [[nodiscard]] bool accepts_external() const;

  // Where the memory-mapped page is; nothing while disabled or in x2APIC mode.
  [[nodiscard]] std::optional<Gpa> page() const;
  [[nodiscard]] u64 read(u32 offset, unsigned size); // of the page; a register is a dword at a multiple of 16
  void write(u32 offset, unsigned size, u64 value);  // anything but a whole aligned dword is ignored
  // MSRs 800h to 8FFh; false or nothing: #GP.
  [[nodiscard]] std::optional<u64> msr_read(u32 msr);
  [[nodiscard]] bool msr_write(u32 msr, u64 value);
  [[nodiscard]] u64 apic_base() const;
  [[nodiscard]] bool set_apic_base(u64 value); // false: #GP
  [[nodiscard]] u8 cr8() const;
  void set_cr8(u8 value); // 0 to 15
  [[nodiscard]] u64 tsc_deadline() const;
  void set_tsc_deadline(u64 tsc);
  void tsc_changed(); // the TSC's offset did: an armed deadline moves

  void reset(); // power-on and RESET
  void init();  // the CPU received INIT: as reset, but IDs and IA32_APIC_BASE stay
  // What firmware leaves behind (MP specification 1.4 §3.6.2.2): enabled, LINT0 ExtINT, LINT1 NMI.
  void enter_virtual_wire_mode();

  // --- for any thread ---
  // An interrupt message from the bus. `level`: level-triggered.
  void accept(apic::DeliveryMode mode, u8 vector, bool level);
  void set_lint(unsigned pin, bool level); // 0: INTR of the PIC, 1: NMI
  [[nodiscard]] bool matches(const apic::Message &message) const;
  [[nodiscard]] u8 priority() const; // PPR, for lowest-priority arbitration
  [[nodiscard]] unsigned id() const { return config_.id; }

  [[nodiscard]] State save() const;
  void restore(const State &state); // on the CPU's thread, or before it runs

private:
  // What a change under the lock makes necessary outside of it.
  struct Effects {
    bool interrupt = false;
    bool nmi = false;
    bool init = false;
    std::optional<u8> broadcast_eoi{};
    std::optional<u64> send{}; // an ICR
  };
  using Lock = std::lock_guard<std::mutex>;
  void perform(const Effects &effects);
  void timer_expired();

  // Under mutex_:
  [[nodiscard]] bool hardware_enabled() const { return s_.base & apic::kBaseEnable; }
  [[nodiscard]] bool x2apic() const { return s_.base & apic::kBaseX2apic; }
  [[nodiscard]] bool software_enabled() const { return s_.svr & apic::kSvrEnable; }
  [[nodiscard]] u8 ppr() const;
  [[nodiscard]] std::optional<u8> deliverable() const;
  [[nodiscard]] u32 x2apic_ldr() const { return config_.id >> 4 << 16 | 1u << (config_.id & 15); }
  void reset_registers();
  void enter_x2apic();
  void clear_vectors();
  void take_fixed(u8 vector, bool level, Effects &effects);
  void deliver_lvt(apic::Lvt row, Effects &effects);
  void note_error(u32 error, Effects &effects);
  void end_of_interrupt(Effects &effects);
  void start_ipi(u64 icr, Effects &effects);
  [[nodiscard]] std::optional<u32> load(u32 reg) const; // nothing: no such register to read
  [[nodiscard]] bool store(u32 reg, u32 value, Effects &effects);
  void set_svr(u32 value);
  void set_lvt(apic::Lvt row, u32 value);
  [[nodiscard]] bool store_msr(u32 reg, u64 value, Effects &effects);
  [[nodiscard]] static u64 msr_reserved(u32 reg);
  [[nodiscard]] bool matches_logical(u32 destination) const;

  const Config config_;
  ApicBus &bus_;
  CpuSignals &signals_;
  EoiListener &eoi_;
  mutable std::mutex mutex_; // a leaf lock; guards what follows
  State s_;                  // but for `timer`, which timer_ keeps
  ApicTimer timer_;          // last: its destructor waits for timer_expired()
};

} // namespace abyme::soft
