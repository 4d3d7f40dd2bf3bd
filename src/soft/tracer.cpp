#include "soft/tracer.hpp"

namespace abyme::soft {

Result<std::unique_ptr<Tracer>> Tracer::create(const TraceOptions &options) {
  std::unique_ptr<Tracer> tracer(new Tracer(options));
  tracer->file_ = options.path.empty() ? stderr : std::fopen(options.path.c_str(), "w");
  if (!tracer->file_) return fail_errno("trace: cannot write to '" + options.path + "'");
  return tracer;
}

Tracer::~Tracer() {
  if (file_ && file_ != stderr) std::fclose(file_);
}

void Tracer::line(const Cpu &cpu, const std::string &text) {
  const std::lock_guard lock(mutex_);
  fmt::print(file_, "{} L{} {:>12} {:016x} {}\n", cpu.index, cpu.vmx_mode == VmxMode::NonRoot ? 2 : 1, cpu.instructions, cpu.rip, text);
}

std::string dump(const Cpu &cpu) {
  static constexpr const char *names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
  static constexpr const char *segments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
  std::string s = fmt::format("vCPU {} after {} instructions, {}\n", cpu.index, cpu.instructions,
                              cpu.vmx_mode == VmxMode::NonRoot ? "in VMX non-root operation"
                              : cpu.vmx_mode == VmxMode::Root  ? "in VMX root operation"
                                                               : "outside VMX operation");
  for (unsigned i = 0; i < 16; i++) s += fmt::format("{:>3} {:016x}{}", names[i], cpu.gpr[i], i % 4 == 3 ? "\n" : "  ");
  s += fmt::format("rip {:016x}  rflags {:08x}  cpl {}  activity {}\n", cpu.rip, rflags(cpu), cpu.cpl, static_cast<int>(cpu.activity));
  for (unsigned i = 0; i < 6; i++) {
    const auto &g = cpu.segments[i];
    s += fmt::format("{} {:04x} base {:016x} limit {:08x} rights {:05x}\n", segments[i], g.selector, g.base, g.limit, g.rights);
  }
  s += fmt::format("cr0 {:x}  cr2 {:x}  cr3 {:x}  cr4 {:x}  efer {:x}  eptp {:x}  vpid {:x}\n", cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4, cpu.efer,
                   cpu.ept_enabled ? cpu.eptp : 0, cpu.vpid);
  s += fmt::format("gdtr {:x}/{:x}  idtr {:x}/{:x}  tr {:04x}\n", cpu.gdtr.base, cpu.gdtr.limit, cpu.idtr.base, cpu.idtr.limit, cpu.tr.selector);
  return s;
}

} // namespace abyme::soft
