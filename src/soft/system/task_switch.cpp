#include "soft/system/task_switch.hpp"
#include "soft/mmu/access.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/stack.hpp"
#include "soft/system/system.hpp"
#include "soft/vmx/vmx.hpp"

namespace abyme::soft::system {

using namespace x86;

namespace {

// SDM 3A figure 7-2: the 32-bit TSS, of which the processor reads and writes the part up to the T bit.
struct [[gnu::packed]] Tss32 {
  u16 link, reserved0;
  u32 stacks[6];
  u32 cr3, eip, eflags, gpr[8];
  struct {
    u16 selector, reserved;
  } segment[6]; // ES, CS, SS, DS, FS, GS
  u16 ldt, reserved1;
  u16 trap, io_map;
};
static_assert(sizeof(Tss32) == 104);

// SDM 3A figure 7-10.
struct [[gnu::packed]] Tss16 {
  u16 link;
  u16 stacks[6];
  u16 ip, flags, gpr[8];
  u16 segment[4]; // ES, CS, SS, DS
  u16 ldt;
};
static_assert(sizeof(Tss16) == 44);

// The dynamic part of a task's state, in the width of its TSS.
struct Task {
  bool wide = true;
  bool trap = false;
  u16 link = 0;
  u32 cr3 = 0, eip = 0, eflags = 0;
  u32 gpr[8] = {};
  u16 segment[6] = {};
  u16 ldt = 0;
};

bool load_task(Cpu &cpu, const Descriptor &tss, Task &task) {
  task.wide = tss.type() & 8;
  if (task.wide) {
    Tss32 image;
    if (!read_linear(cpu, tss.base(), image, As::Supervisor)) return false;
    task.trap = image.trap & 1;
    task.link = image.link, task.cr3 = image.cr3, task.eip = image.eip, task.eflags = image.eflags;
    for (unsigned i = 0; i < 8; i++) task.gpr[i] = image.gpr[i];
    for (unsigned i = 0; i < 6; i++) task.segment[i] = image.segment[i].selector;
    task.ldt = image.ldt;
    return true;
  }
  Tss16 image;
  if (!read_linear(cpu, tss.base(), image, As::Supervisor)) return false;
  task.link = image.link, task.eip = image.ip, task.eflags = image.flags;
  for (unsigned i = 0; i < 8; i++) task.gpr[i] = 0xFFFF0000 | image.gpr[i];
  for (unsigned i = 0; i < 4; i++) task.segment[i] = image.segment[i];
  task.ldt = image.ldt;
  return true;
}

bool write_task(Cpu &cpu, bool wide, u64 base, const Task &task) {
  // The static fields between (stacks, CR3, LDT) are left alone (SDM 3A §7.2.1).
  if (wide) {
    Tss32 image;
    image.eip = task.eip, image.eflags = task.eflags;
    for (unsigned i = 0; i < 8; i++) image.gpr[i] = task.gpr[i];
    for (unsigned i = 0; i < 6; i++) image.segment[i] = {task.segment[i], 0};
    return write_linear(cpu, base + offsetof(Tss32, eip), &image.eip, offsetof(Tss32, ldt) - offsetof(Tss32, eip),
                        As::Supervisor);
  }
  Tss16 image;
  image.ip = static_cast<u16>(task.eip), image.flags = static_cast<u16>(task.eflags);
  for (unsigned i = 0; i < 8; i++) image.gpr[i] = static_cast<u16>(task.gpr[i]);
  for (unsigned i = 0; i < 4; i++) image.segment[i] = task.segment[i];
  return write_linear(cpu, base + offsetof(Tss16, ip), &image.ip, offsetof(Tss16, ldt) - offsetof(Tss16, ip),
                      As::Supervisor);
}

Task current_task(const Cpu &cpu, const TaskSwitch &how) {
  Task task;
  task.eip = static_cast<u32>(how.return_rip);
  task.eflags = static_cast<u32>(rflags(cpu));
  if (how.source == TaskSource::Iret) task.eflags &= ~static_cast<u32>(rflags::NT);
  for (unsigned i = 0; i < 8; i++) task.gpr[i] = static_cast<u32>(cpu.gpr[i]);
  for (unsigned i = 0; i < 6; i++) task.segment[i] = cpu.segments[i].selector;
  return task;
}

u8 selector_vector(const TaskSwitch &how) { return how.source == TaskSource::Iret ? TS : GP; }

// --- loading the new task's segments: every failure is in the context of the new task (SDM 3A table 7-1) ---

bool load_ldt(Cpu &cpu, u16 selector, u32 ext) {
  cpu.ldtr = {0, 0, Segment::kUnusable, selector};
  if (is_null(selector)) return true;
  u32 error = selector_error(selector, ext);
  Descriptor d;
  if (selector & 4) return fail(cpu, TS, error);
  if (!read_descriptor(cpu, selector, d, TS, ext)) return false;
  if (!d.is_system() || d.type() != kLdt || !d.present()) return fail(cpu, TS, error);
  cpu.ldtr = d.segment(selector);
  return true;
}

bool load_task_cs(Cpu &cpu, u16 selector, u32 ext) {
  u32 error = selector_error(selector, ext);
  if (is_null(selector)) return fail(cpu, TS, error);
  Descriptor d;
  if (!read_descriptor(cpu, selector, d, TS, ext)) return false;
  u32 rpl = selector & 3;
  if (!d.is_code() || (d.conforming() ? d.dpl() > rpl : d.dpl() != rpl)) return fail(cpu, TS, error);
  if (!d.present()) return fail(cpu, NP, error);
  if (!mark_accessed(cpu, d)) return false;
  cpu.segments[CS] = d.segment(selector);
  return true;
}

bool load_task_ss(Cpu &cpu, u16 selector, u32 ext) {
  if (is_null(selector)) return fail(cpu, TS, selector_error(selector, ext));
  Descriptor d;
  if (!read_stack_segment(cpu, selector, {cpu.cpl, TS, ext}, d)) return false;
  cpu.segments[SS] = d.segment(selector);
  return true;
}

bool load_task_data(Cpu &cpu, u8 segment, u16 selector, u32 ext) {
  if (is_null(selector)) return true;
  u32 error = selector_error(selector, ext);
  Descriptor d;
  if (!read_descriptor(cpu, selector, d, TS, ext)) return false;
  bool privileged = !d.conforming() && ((selector & 3) > d.dpl() || cpu.cpl > d.dpl());
  if (!d.readable() || privileged) return fail(cpu, TS, error);
  if (!d.present()) return fail(cpu, NP, error);
  if (!mark_accessed(cpu, d)) return false;
  cpu.segments[segment] = d.segment(selector);
  return true;
}

bool load_task_segments(Cpu &cpu, const Task &task, u32 ext) {
  constexpr u8 kData[] = {ES, DS, FS, GS};
  if (!load_ldt(cpu, task.ldt, ext)) return false;
  if (cpu.v86()) return true;
  if (!load_task_cs(cpu, task.segment[CS], ext) || !load_task_ss(cpu, task.segment[SS], ext)) return false;
  for (u8 segment : kData)
    if (!load_task_data(cpu, segment, task.segment[segment], ext)) return false;
  return true;
}

// Registers that are loaded before any check of the new task's selectors.
bool load_registers(Cpu &cpu, const Task &task) {
  if (task.wide && cpu.cr0 & cr0::PG && !write_cr3(cpu, task.cr3)) return false;
  for (unsigned i = 0; i < 8; i++) cpu.gpr[i] = task.gpr[i];
  cpu.rip = task.eip;
  set_rflags(cpu, task.wide ? task.eflags : task.eflags & 0xFFFF);
  cpu.cpl = cpu.v86() ? 3 : task.segment[CS] & 3;
  for (u8 i = 0; i < kSegments; i++)
    cpu.v86() ? load_v86_segment(cpu, i, task.segment[i]) : load_null_segment(cpu, i, task.segment[i]);
  // Until its descriptor is read, SS has the level of the task, as everything that asks SS for it expects.
  if (!cpu.v86()) cpu.segments[SS].rights |= static_cast<u32>(cpu.cpl) << 5;
  return true;
}

bool push_error_code(Cpu &cpu, const TaskSwitch &how) {
  Frame frame(cpu.tr.type() & 8 ? 4 : 2);
  frame.push(how.error);
  StackPlace stack = current_stack(cpu, how.ext);
  if (!frame.write(cpu, stack)) return false;
  set_sp(cpu, stack.sp, stack.mask());
  return true;
}

// Steps 1 to 10 of SDM 3A §7.3, up to the point of no return: everything in memory.
bool leave_old_task(Cpu &cpu, const TaskSwitch &how) {
  bool old_wide = cpu.tr.type() & 8;
  if (how.source == TaskSource::Iret || how.source == TaskSource::Jump) {
    Descriptor old;
    if (!read_descriptor(cpu, cpu.tr.selector, old, TS, how.ext) || !mark_busy(cpu, old, false)) return false;
  }
  return write_task(cpu, old_wide, cpu.tr.base, current_task(cpu, how));
}

bool nests(const TaskSwitch &how) { return how.source == TaskSource::Call || how.source == TaskSource::Gate; }

// Both TSSs are looked at before anything is written.
bool probe_tasks(Cpu &cpu, const Descriptor &tss) {
  u32 old_size = cpu.tr.type() & 8 ? sizeof(Tss32) : sizeof(Tss16);
  return probe_write(cpu, cpu.tr.base, old_size, As::Supervisor) && probe_write(cpu, tss.base(), 2, As::Supervisor);
}

} // namespace

bool read_tss_descriptor(Cpu &cpu, const TaskSwitch &how, Descriptor &tss) {
  u8 vector = selector_vector(how);
  u32 error = selector_error(how.selector, how.ext);
  if (how.selector & 4 || is_null(how.selector)) return fail(cpu, vector, error);
  if (!read_descriptor(cpu, how.selector, tss, vector, how.ext)) return false;
  u32 free_type = tss.type() & ~2u;
  bool busy = tss.type() & 2;
  if (!tss.is_system() || (free_type != kTss16 && free_type != kTss32) || busy != (how.source == TaskSource::Iret))
    return fail(cpu, vector, error);
  if (!tss.present()) return fail(cpu, NP, error);
  u32 least = free_type == kTss32 ? sizeof(Tss32) : sizeof(Tss16);
  return tss.limit() + 1ull >= least || fail(cpu, TS, error);
}

bool switch_task(Cpu &cpu, const TaskSwitch &how) {
  Descriptor tss;
  Task task;
  if (!read_tss_descriptor(cpu, how, tss)) return false;
  if (vmx::intercepts_task_switch(cpu, how.selector, static_cast<unsigned>(how.source), how.op)) return true;
  if (!probe_tasks(cpu, tss) || !load_task(cpu, tss, task) || !leave_old_task(cpu, how)) return false;
  if (nests(how)) {
    if (!write_linear(cpu, tss.base(), cpu.tr.selector, As::Supervisor)) return false;
    task.eflags |= rflags::NT;
  }
  if (how.source != TaskSource::Iret && !mark_busy(cpu, tss, true)) return false;

  cpu.tr = tss.segment(how.selector);
  cpu.tr.rights |= 2;
  cpu.cr0 |= cr0::TS;
  constexpr u64 kLocalEnables = 0x155; // L0 to L3, LE
  cpu.dr7 &= ~kLocalEnables;
  cpu.shadow = 0;
  bool done = load_registers(cpu, task) && load_task_segments(cpu, task, how.ext);
  mode_changed(cpu);
  if (!done) return false;
  if (how.push_error && !push_error_code(cpu, how)) return false;
  if (cpu.rip > cpu.segments[CS].limit) return fail(cpu, GP, how.ext);
  constexpr u64 kTaskSwitchTrap = 1 << 15; // DR6.BT
  if (task.trap) {
    cpu.pending_debug |= kTaskSwitchTrap;
    cpu.need(kAttentionEvents);
  }
  return true;
}

} // namespace abyme::soft::system
