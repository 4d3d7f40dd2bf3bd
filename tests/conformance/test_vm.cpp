#include "conformance/test_vm.hpp"
#include "x86/cpu_models.hpp"
#include <stdexcept>

namespace abyme::conformance {
namespace {

using namespace x86;

constexpr u64 kPresentWritable = 3, kLargePage = 0x80;

template <class T> T value_or_throw(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

void write_page_tables(GuestMemory &memory) {
  const u64 pml4 = layout::kPageTables, pdpt = pml4 + kPageSize, directories = pdpt + kPageSize;
  const auto put = [&memory](u64 at, u64 entry) { EXPECT_TRUE(memory.store(Gpa(at), entry)); };
  put(pml4, pdpt | kPresentWritable);
  for (u64 i = 0; i < 4; ++i) put(pdpt + i * 8, (directories + i * kPageSize) | kPresentWritable);
  for (u64 i = 0; i < 2048; ++i) put(directories + i * 8, i << 21 | kPresentWritable | kLargePage);
}

void write_gdt(GuestMemory &memory) {
  const u64 gdt[] = {0,
                     0x00AF'9B00'0000'FFFF, // 64-bit code
                     0x00CF'9300'0000'FFFF, // data
                     0x00CF'9B00'0000'FFFF, // 32-bit code
                     0x00CF'9300'0000'FFFF,
                     0x0000'8900'0000'0067 | layout::kTss << 16, // available 64-bit TSS, below 64 KiB
                     0};
  EXPECT_TRUE(memory.write(Gpa(layout::kGdt), gdt, sizeof gdt));
}

} // namespace

void PrintTo(const Access &a, std::ostream *out) {
  *out << fmt::format("{} {} {:#x} size {} value {:#x}", a.write ? "write" : "read", a.port ? "port" : "memory", a.at,
                      a.size, a.value);
}

TestVm::TestVm(const EngineRow &row, unsigned cpus)
    : memory_(value_or_throw(GuestMemory::create(layout::kMemory))),
      profile_(value_or_throw(make_profile("max", value_or_throw(row.features()), cpus))) {
  const EngineConfig config{.cpus = cpus,
                            .memory = *memory_,
                            .profile = profile_,
                            .io = *this,
                            .pic = *this,
                            .ioapic = *this,
                            .timers = *timers_};
  engine_ = value_or_throw(row.make(config));
}

CpuState TestVm::long_mode(u64 rip) {
  write_gdt(*memory_);
  write_page_tables(*memory_);
  store<u64>(layout::kTss + 4, layout::kStackTop); // RSP0
  CpuState s = reset_state();
  const Segment code{.base = 0, .limit = 0xFFFF'FFFF, .rights = 0xA09B, .selector = layout::kCode64};
  const Segment data{.base = 0, .limit = 0xFFFF'FFFF, .rights = 0xC093, .selector = layout::kData64};
  s.segments.fill(data);
  s.segments[CS] = code;
  s.tr = {.base = layout::kTss, .limit = 0x67, .rights = 0x8B, .selector = layout::kTssSelector};
  s.gdtr = {.base = layout::kGdt, .limit = 7 * 8 - 1};
  s.idtr = {.base = layout::kIdt, .limit = 4095};
  s.cr0 = cr0::PE | cr0::MP | cr0::ET | cr0::NE | cr0::WP | cr0::PG;
  s.cr3 = layout::kPageTables;
  s.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;
  s.efer = efer::LME | efer::LMA | efer::NXE | efer::SCE;
  s.rip = rip;
  s.gpr[RSP] = layout::kStackTop;
  return s;
}

CpuState TestVm::real_mode(u64 rip) {
  CpuState s = reset_state();
  for (auto &segment : s.segments) segment.base = 0, segment.selector = 0;
  s.rip = rip;
  s.gpr[RSP] = layout::kStackTop;
  return s;
}

void TestVm::set_gate(u8 vector, u64 handler) {
  const u64 low =
      (handler & 0xFFFF) | static_cast<u64>(layout::kCode64) << 16 | 0x8E00ull << 32 | (handler >> 16 & 0xFFFF) << 48;
  store<u64>(layout::kIdt + vector * 16u, low);
  store<u64>(layout::kIdt + vector * 16u + 8, handler >> 32);
}

VcpuExit TestVm::run(unsigned index) {
  auto finished = std::async(std::launch::async, [this, index] { return engine_->vcpu(index).run(); });
  if (finished.wait_for(std::chrono::seconds(10)) == std::future_status::timeout) {
    ADD_FAILURE() << "vCPU " << index << " does not end";
    engine_->stop();
  }
  auto exit = finished.get();
  if (const auto *error = std::get_if<InternalError>(&exit)) ADD_FAILURE() << error->message;
  return exit;
}

std::vector<Access> TestVm::accesses() {
  const std::lock_guard lock(mutex_);
  return accesses_;
}

void TestVm::raise_external_interrupt(u8 vector) {
  {
    const std::lock_guard lock(mutex_);
    external_ = vector;
  }
  engine_->external_interrupt_changed();
}

std::vector<u8> TestVm::ended_interrupts() {
  const std::lock_guard lock(mutex_);
  return ended_;
}

u64 TestVm::record(Access access) {
  if (access.port && access.write && access.at == layout::kDonePort) {
    engine_->stop();
    return 0;
  }
  if (!access.write && on_read) access.value = on_read(access);
  {
    const std::lock_guard lock(mutex_);
    accesses_.push_back(access);
  }
  if (access.write && on_write) on_write(access);
  return access.value;
}

u32 TestVm::port_read(u16 port, unsigned size) {
  return static_cast<u32>(record({.write = false, .port = true, .at = port, .size = size, .value = ~0ull}));
}
void TestVm::port_write(u16 port, unsigned size, u32 value) {
  record({.write = true, .port = true, .at = port, .size = size, .value = value});
}
u64 TestVm::mmio_read(Gpa at, unsigned size) {
  return record({.write = false, .port = false, .at = at.value, .size = size, .value = ~0ull});
}
void TestVm::mmio_write(Gpa at, unsigned size, u64 value) {
  record({.write = true, .port = false, .at = at.value, .size = size, .value = value});
}

bool TestVm::pending() {
  const std::lock_guard lock(mutex_);
  return external_.has_value();
}
u8 TestVm::acknowledge() {
  const std::lock_guard lock(mutex_);
  const u8 vector = external_.value_or(7); // the spurious vector of a PIC that nobody asks
  external_.reset();
  return vector;
}
void TestVm::end_of_interrupt(u8 vector) {
  const std::lock_guard lock(mutex_);
  ended_.push_back(vector);
}

} // namespace abyme::conformance
