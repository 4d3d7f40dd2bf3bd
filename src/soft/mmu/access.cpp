// Accesses that the inlined TLB probe did not answer.
#include "soft/mmu/access.hpp"
#include "memory/guest_memory.hpp"
#include "soft/apic/local_apic.hpp"
#include "soft/decode/block_cache.hpp"
#include "soft/mmu/fast.hpp"
#include "soft/mmu/mmu.hpp"
#include "soft/vmx/vmx.hpp"
#include "vcpu/engine.hpp"

namespace abyme::soft {
namespace {

using namespace x86;
using mmu::Access;
using mmu::Page;

bool canonical(u64 linear) { return static_cast<u64>(static_cast<i64>(linear << 16) >> 16) == linear; }

Access access_for(const Cpu &cpu, As as, bool write) {
  Access a{.write = write};
  a.user = as == As::Cpl && cpu.cpl == 3;
  a.smap = !a.user && (cpu.cr4 & cr4::SMAP) && (as == As::Supervisor || !(cpu.rflags_rest & rflags::AC));
  return a;
}

// Where the bytes of an access lie: RAM on the host, or physical memory that somebody else answers for.
struct Place {
  u8 *host = nullptr; // null: MMIO
  u64 physical = 0;
  bool apic_access = false; // the APIC-access page of VT-x
  bool code = false;        // the page holds decoded code
};

void fill(Cpu &cpu, u64 linear, As as, const Page &page, const Place &place) {
  mmu::Mmu &m = *cpu.mmu;
  if (m.check_alignment && as == As::Cpl) return;
  if (m.watch.enabled && mmu::watched_page(cpu, linear)) return;
  const u64 context = mmu::context_of(cpu, as);
  const u64 tag = (linear & kPageMask) | context;
  TlbEntry &e = m.tlb.entries[Tlb::index(linear, mmu::salt_of(context, cpu.vpid))];
  const u64 addend = reinterpret_cast<u64>(place.host) - linear;
  if (e.read != tag || e.addend != addend) e = {tag, Tlb::kInvalid, addend, 0};
  if (page.writable && !place.code) e.write = tag;
  mmu::note_size(m, linear, page);
}

// The local APIC's page is this CPU's own, whatever lies behind it in memory.
bool is_apic(const Cpu &cpu, u64 physical) {
  if (!cpu.apic) return false;
  const auto page = cpu.apic->page();
  return page && page->value == (physical & kPageMask);
}

// Translates [linear, linear + size), which lies in one page.
bool locate(Cpu &cpu, u64 linear, unsigned size, bool write, As as, Place &place) {
  if (cpu.long_mode() && !canonical(linear)) {
    (void)raise(cpu, GP, 0);
    cpu.fault.non_canonical = true;
    return false;
  }
  const Access access = access_for(cpu, as, write);
  Page page;
  if (!mmu::walk(cpu, linear, access, page)) return false;
  place.physical = page.physical;
  if (cpu.vmx_mode == VmxMode::NonRoot && vmx::is_apic_access_page(cpu, page.physical & kPageMask)) {
    place.apic_access = true;
    return true;
  }
  if (is_apic(cpu, page.physical)) return true;
  place.host = cpu.memory->host(Gpa(page.physical), size);
  if (!place.host) return true;
  place.code = cpu.memory->is_code(Gpa(page.physical).page());
  fill(cpu, linear, as, page, place);
  return true;
}

bool misaligned(Cpu &cpu, u64 linear, unsigned size, As as) {
  if (!cpu.mmu->check_alignment || as != As::Cpl || size > 8 || (linear & (size - 1)) == 0) return false;
  (void)raise(cpu, AC, 0);
  return true;
}

u64 mmio_piece_read(Cpu &cpu, u64 physical, unsigned size) {
  return is_apic(cpu, physical) ? cpu.apic->read(physical & 0xFFF, size) : cpu.io->mmio_read(Gpa(physical), size);
}

void mmio_piece_write(Cpu &cpu, u64 physical, unsigned size, u64 value) {
  if (!is_apic(cpu, physical)) return cpu.io->mmio_write(Gpa(physical), size, value);
  cpu.apic->write(physical & 0xFFF, size, value);
  cpu.need(kAttentionInterrupt);
}

// One access of the full width where it can be one: other vCPUs must not see halves.
void copy_element(u8 *to, const u8 *from, unsigned size) {
  switch (size) {
  case 8: host_store<u64>(to, host_load<u64>(from)); break;
  case 4: host_store<u32>(to, host_load<u32>(from)); break;
  case 2: host_store<u16>(to, host_load<u16>(from)); break;
  case 1: *to = *from; break;
  default: __builtin_memcpy(to, from, size);
  }
}

// What the TLB knows of the whole access, or nullptr.
u8 *cached(const Cpu &cpu, u64 linear, unsigned size, bool write, As as) {
  const u64 context = as == As::Cpl ? cpu.tlb_context : mmu::context_of(cpu, as);
  const u64 salt = as == As::Cpl ? cpu.tlb_salt : mmu::salt_of(context, cpu.vpid);
  const TlbEntry &e = cpu.tlb->entries[Tlb::index(linear, salt)];
  const u64 tag = ((linear + size - 1) & kPageMask) | context;
  return (write ? e.write : e.read) == tag ? reinterpret_cast<u8 *>(linear + e.addend) : nullptr;
}

// The largest naturally aligned power of two that fits.
unsigned piece(u64 at, unsigned left) {
  unsigned n = 8;
  while (n > left || (at & (n - 1))) n /= 2;
  return n;
}

// APIC-access pages are virtualized by VT-x. False: it ended in a VM exit.
bool virtual_apic(Cpu &cpu, u64 linear, u64 physical, u8 *bytes, unsigned size, bool write) {
  u64 value = 0;
  if (write) __builtin_memcpy(&value, bytes, size < 8 ? size : 8);
  bool exited = false;
  if (!vmx::apic_access(cpu, {.offset = physical & 0xFFF, .size = size, .write = write, .fetch = false, .linear = linear}, value, exited) ||
      exited) {
    if (cpu.fault.kind == Fault::Kind::None) cpu.fault = {.kind = Fault::Kind::Retry};
    return false;
  }
  if (!write) __builtin_memcpy(bytes, &value, size < 8 ? size : 8);
  return true;
}

bool read_place(Cpu &cpu, u64 linear, const Place &place, u8 *to, unsigned size) {
  if (place.apic_access) return virtual_apic(cpu, linear, place.physical, to, size, false);
  if (place.host) {
    copy_element(to, place.host, size);
    return true;
  }
  for (unsigned done = 0; done < size;) {
    const unsigned n = piece(place.physical + done, size - done);
    const u64 value = mmio_piece_read(cpu, place.physical + done, n);
    __builtin_memcpy(to + done, &value, n);
    done += n;
  }
  return true;
}

bool write_place(Cpu &cpu, u64 linear, const Place &place, const u8 *from, unsigned size) {
  if (place.apic_access) return virtual_apic(cpu, linear, place.physical, const_cast<u8 *>(from), size, true);
  if (place.host) {
    copy_element(place.host, from, size);
    if (place.code) cpu.blocks->written(cpu, place.physical, size);
    return true;
  }
  for (unsigned done = 0; done < size;) {
    const unsigned n = piece(place.physical + done, size - done);
    u64 value = 0;
    __builtin_memcpy(&value, from + done, n);
    mmio_piece_write(cpu, place.physical + done, n, value);
    done += n;
  }
  return true;
}

void note_watched(Cpu &cpu, u64 linear, unsigned size, bool write, As as) {
  if (cpu.mmu->watch.enabled && as == As::Cpl) [[unlikely]] mmu::note_access(cpu, linear, size, write);
}

unsigned in_first_page(u64 linear, unsigned size) {
  const u64 room = kPageSize - (linear & 0xFFF);
  return size <= room ? size : static_cast<unsigned>(room);
}

// Linear addresses wrap at 4 GiB outside of 64-bit mode; those of descriptor tables and stacks that lie above, in compatibility mode, do not.
u64 second_page(const Cpu &cpu, u64 linear, unsigned first) {
  const u64 next = linear + first;
  return cpu.code64() || linear >> 32 ? next : next & 0xFFFFFFFF;
}

} // namespace

bool read_linear(Cpu &cpu, u64 linear, void *to, unsigned size, As as) {
  if (const u8 *p = cached(cpu, linear, size, false, as)) {
    copy_element(static_cast<u8 *>(to), p, size);
    return true;
  }
  if (misaligned(cpu, linear, size, as)) return false;
  const unsigned first = in_first_page(linear, size);
  Place a, b;
  if (!locate(cpu, linear, first, false, as, a)) return false;
  const u64 rest = second_page(cpu, linear, first);
  if (first < size && !locate(cpu, rest, size - first, false, as, b)) return false;
  note_watched(cpu, linear, size, false, as);
  auto *bytes = static_cast<u8 *>(to);
  return read_place(cpu, linear, a, bytes, first) && (first == size || read_place(cpu, rest, b, bytes + first, size - first));
}

bool write_linear(Cpu &cpu, u64 linear, const void *from, unsigned size, As as) {
  if (u8 *p = cached(cpu, linear, size, true, as)) {
    copy_element(p, static_cast<const u8 *>(from), size);
    return true;
  }
  if (misaligned(cpu, linear, size, as)) return false;
  const unsigned first = in_first_page(linear, size);
  Place a, b;
  if (!locate(cpu, linear, first, true, as, a)) return false;
  const u64 rest = second_page(cpu, linear, first);
  if (first < size && !locate(cpu, rest, size - first, true, as, b)) return false;
  note_watched(cpu, linear, size, true, as);
  const auto *bytes = static_cast<const u8 *>(from);
  return write_place(cpu, linear, a, bytes, first) && (first == size || write_place(cpu, rest, b, bytes + first, size - first));
}

namespace {
bool probe(Cpu &cpu, u64 linear, unsigned size, bool write, As as) {
  if (cached(cpu, linear, size, write, as)) return true;
  if (misaligned(cpu, linear, size, as)) return false;
  const unsigned first = in_first_page(linear, size);
  Place place;
  return locate(cpu, linear, first, write, as, place) &&
         (first == size || locate(cpu, second_page(cpu, linear, first), size - first, write, as, place));
}
} // namespace

bool probe_write(Cpu &cpu, u64 linear, unsigned size, As as) { return probe(cpu, linear, size, true, as); }
bool probe_read(Cpu &cpu, u64 linear, unsigned size, As as) { return probe(cpu, linear, size, false, as); }

u8 *host_pointer(Cpu &cpu, u64 linear, unsigned size, bool write, As as) {
  cpu.fault.kind = Fault::Kind::None;
  if (as == As::Cpl)
    if (u8 *p = write ? probe_tlb_write(cpu, linear, size) : probe_tlb_read(cpu, linear, size)) return p;
  if (in_first_page(linear, size) != size || misaligned(cpu, linear, size, as)) return nullptr;
  Place place;
  if (!locate(cpu, linear, size, write, as, place)) return nullptr;
  if (place.code && write) return nullptr;
  if (place.host) note_watched(cpu, linear, size, write, as);
  return place.host;
}

Loaded load_slow(Cpu &cpu, u64 linear, unsigned size) {
  u64 value = 0;
  const bool ok = read_linear(cpu, linear, &value, size);
  return {value, ok};
}

Loaded load_for_write_slow(Cpu &cpu, u64 linear, unsigned size) {
  if (!probe_write(cpu, linear, size)) return {0, false};
  return load_slow(cpu, linear, size);
}

bool store_slow(Cpu &cpu, u64 linear, u64 value, unsigned size) { return write_linear(cpu, linear, &value, size); }

bool read_physical(Cpu &cpu, u64 physical, void *to, unsigned size) { return cpu.memory->read(Gpa(physical), to, size); }
bool write_physical(Cpu &cpu, u64 physical, const void *from, unsigned size) { return cpu.memory->write(Gpa(physical), from, size); }

Translation translate(Cpu &cpu, u64 linear, bool write, bool fetch, As as) {
  if (cpu.long_mode() && !canonical(linear)) {
    (void)raise(cpu, GP, 0);
    cpu.fault.non_canonical = true;
    return {0, false};
  }
  Access access = access_for(cpu, as, write);
  access.fetch = fetch;
  Page page;
  const bool ok = mmu::walk(cpu, linear, access, page);
  if (ok) mmu::note_size(*cpu.mmu, linear, page); // whoever keeps it must be found by INVLPG
  return {page.physical, ok};
}

Translation translate_guest_physical(Cpu &cpu, u64 guest_physical, bool write) {
  if (!cpu.ept_enabled) return {guest_physical, true};
  mmu::EptPage page;
  const bool ok = mmu::ept_walk(cpu, guest_physical, {.write = write}, mmu::EptUse::Data, 0, page);
  return {page.physical, ok};
}

} // namespace abyme::soft
