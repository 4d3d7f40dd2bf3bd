#include "soft/decode/block_cache.hpp"
#include "memory/guest_memory.hpp"
#include "soft/decode/decoder.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/interp/handlers.hpp"
#include "soft/mmu/mmu.hpp"
#include <algorithm>
#include <sys/mman.h>

namespace abyme::soft {
namespace {

constexpr unsigned kMaxInstructions = 64;
constexpr unsigned kMaxLength = 15;
constexpr unsigned kMaxTries = 16;

// A block under construction, from a copy of its bytes.
struct Draft {
  u8 bytes[kPageSize + kMaxLength]; // from the block's offset on; behind the page's end those of the next page
  Op ops[kMaxInstructions + 1];
  bool links[kMaxInstructions];
  unsigned count = 0;
  unsigned length = 0;
};

u64 lines_of(unsigned first, unsigned last) { return (~0ull >> (63 - (last / 64 - first / 64))) << (first / 64); }

// Memory that is not there reads as all ones.
void copy_code(Cpu &cpu, u64 physical, u8 *to, unsigned size) {
  if (!cpu.memory->read(Gpa(physical), to, size)) __builtin_memset(to, 0xFF, size);
}

// Decodes until the block is over or the bytes are. False: not one whole instruction.
bool draft_block(Cpu &cpu, Draft &draft, unsigned available, u16 offset, unsigned limit) {
  Decoder decoder(cpu);
  unsigned at = 0;
  draft.count = 0;
  for (bool ends = false; !ends && draft.count < limit && at < available;) {
    Extent extent;
    Op &op = draft.ops[draft.count];
    if (decoder.decode(cpu, draft.bytes + at, available - at, static_cast<u16>(offset + at), op, extent) == Decoded::Truncated) break;
    draft.links[draft.count++] = extent.links;
    at += op.length;
    ends = extent.ends;
  }
  draft.length = at;
  return draft.count > 0;
}

// Whether memory still says what was decoded.
bool unchanged(Cpu &cpu, const Draft &draft, u64 physical, unsigned size, unsigned from) {
  u8 now[kPageSize];
  copy_code(cpu, physical, now, size);
  return __builtin_memcmp(now, draft.bytes + from, size) == 0;
}

// From now on this vCPU's writes to the page take the slow path.
void drop_write_translations(Cpu &cpu, Gpa page) {
  const u64 host = reinterpret_cast<u64>(cpu.memory->host(page, kPageSize));
  for (TlbEntry &e : cpu.mmu->tlb.entries)
    if (e.write != Tlb::kInvalid && (e.write & kPageMask) + e.addend == host) e.write = Tlb::kInvalid;
}

} // namespace

BlockCache::BlockCache(size_t bytes, CodeSync &sync) : sync_(sync), arena_size_(bytes) {
  void *arena = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  arena_ = arena == MAP_FAILED ? nullptr : static_cast<u8 *>(arena);
  if (!arena_) arena_size_ = 0;
}

BlockCache::~BlockCache() {
  if (arena_) munmap(arena_, arena_size_);
}

void *BlockCache::allocate(size_t bytes) {
  bytes = (bytes + 15) & ~size_t{15};
  if (arena_size_ - arena_used_ < bytes) {
    full_ = true;
    return nullptr;
  }
  void *place = arena_ + arena_used_;
  arena_used_ += bytes;
  return place;
}

void BlockCache::forget_all(Cpu &cpu) {
  cpu.mmu->fetch.fill({});
  pages_.clear();
  straddlers_.clear();
  arena_used_ = 0;
  full_ = false;
  hostexec::clear(cpu);
}

CodePage *BlockCache::page_at(Cpu &, u64 physical) {
  auto &page = pages_[physical & kPageMask];
  if (!page) {
    page = std::make_unique<CodePage>();
    page->physical = physical & kPageMask;
  }
  return page.get();
}

CodePage *BlockCache::fetch_page(Cpu &cpu, u64 linear) {
  mmu::FetchEntry &f = cpu.mmu->fetch[linear >> 12 & 0xFF];
  const u64 tag = (linear & kPageMask) | cpu.tlb_context;
  if (f.tag == tag) return f.page;
  const Translation t = translate(cpu, linear, false, true);
  if (!t.valid) return nullptr;
  CodePage *page = page_at(cpu, t.physical);
  if (!cpu.mmu->check_alignment) f = {.tag = tag, .page = page};
  return page;
}

void BlockCache::become_code(Cpu &cpu, u64 physical, u64 lines) {
  const Gpa page(physical & kPageMask);
  if (!cpu.memory->host(page, kPageSize)) return; // not RAM: nobody writes there
  const bool was = cpu.memory->is_code(page);
  cpu.memory->add_code(page, lines);
  if (was) return;
  drop_write_translations(cpu, page);
  sync_.retire_writers(page, cpu);
}

Block *BlockCache::find(Cpu &cpu, bool single) {
  if (full_ || hostexec::full(cpu)) forget_all(cpu);
  const bool wide = cpu.mode & kModeCode64;
  const u64 linear = wide ? cpu.rip : static_cast<u32>(cpu.segments[x86::CS].base + cpu.rip);
  CodePage *page = fetch_page(cpu, linear);
  if (!page) return nullptr;
  const u16 offset = linear & 0xFFF;
  const u32 mode = cpu.mode | (single ? kModeSingle : 0);
  Block *b = page->find(offset, mode);
  if (b && b->second) {
    // The page behind may be another one by now.
    CodePage *second = fetch_page(cpu, (linear & kPageMask) + kPageSize);
    if (!second) return nullptr;
    if (second != b->second) b = nullptr;
  }
  if (!b) b = build(cpu, *page, offset, linear, mode);
  if (b) cpu.gpr[Op::kRipSlot / 8] = cpu.rip - offset;
  return b;
}

Block *BlockCache::build(Cpu &cpu, CodePage &page, u16 offset, u64 linear, u32 mode) {
  Draft draft;
  const unsigned here = static_cast<unsigned>(kPageSize) - offset;
  const unsigned limit = mode & kModeSingle ? 1 : kMaxInstructions;
  for (unsigned tries = 0; tries < kMaxTries; tries++) {
    CodePage *second = nullptr;
    copy_code(cpu, page.physical + offset, draft.bytes, here);
    if (!draft_block(cpu, draft, here, offset, limit)) {
      second = fetch_page(cpu, (linear & kPageMask) + kPageSize);
      if (!second) return nullptr;
      copy_code(cpu, second->physical, draft.bytes + here, kMaxLength);
      if (!draft_block(cpu, draft, here + kMaxLength, offset, 1)) break;
    }
    // Watched from now on; a write that came before is found by comparing.
    const unsigned in_first = std::min(here, draft.length);
    become_code(cpu, page.physical, lines_of(offset, offset + in_first - 1));
    if (second) become_code(cpu, second->physical, 1);
    if (!unchanged(cpu, draft, page.physical + offset, in_first, 0)) continue;
    if (second && !unchanged(cpu, draft, second->physical, draft.length - in_first, in_first)) continue;
    return publish(cpu, page, second, draft.ops, draft.links, draft.count, offset, draft.length, mode);
  }
  cpu.fault = {.kind = Fault::Kind::Retry}; // another vCPU rewrites the code all the time
  return nullptr;
}

Block *BlockCache::publish(Cpu &cpu, CodePage &page, CodePage *second, Op *ops, const bool *links, unsigned count, u16 offset, unsigned length,
                           u32 mode) {
  auto *b = static_cast<Block *>(allocate(sizeof(Block) + (count + 1) * sizeof(Op)));
  for (unsigned i = 0; b && i < count; i++) {
    if (!links[i]) continue;
    auto *link = static_cast<Link *>(allocate(sizeof(Link)));
    if (link) *link = {.page = &page, .taken = nullptr, .not_taken = nullptr};
    else b = nullptr;
    ops[i].data = link;
  }
  if (!b) { // full: start over with room
    cpu.fault = {.kind = Fault::Kind::Retry};
    return nullptr;
  }
  *b = {.next = nullptr, .page = &page, .second = second, .mode = mode, .offset = offset, .bytes = static_cast<u16>(length), .count = count};
  std::copy_n(ops, count, b->ops);
  Op &end = b->ops[count];
  end = {};
  end.handler = end_of_block;
  end.offset = static_cast<u16>(offset + length);
  Block *&slot = page.slots[CodePage::hash(offset)];
  b->next = slot;
  slot = b;
  if (second) straddlers_[second->physical].push_back(b);
  return b;
}

void BlockCache::written(Cpu &cpu, u64 physical, unsigned size) {
  cpu.memory->note_written(Gpa(physical), size);
  process(cpu);
}

namespace {
// Whoever is running the block, or is linked to it, leaves it at its next instruction.
void retire(Block &b) {
  for (u32 i = 0; i < b.count; i++) b.ops[i].handler = stale;
  b.ops[b.count].handler = stale_end;
}
} // namespace

void BlockCache::drop_page(Cpu &cpu, u64 physical) {
  const auto found = pages_.find(physical);
  if (found != pages_.end())
    for (Block *&slot : found->second->slots) {
      for (Block *b = slot; b; b = b->next) retire(*b);
      slot = nullptr;
    }
  const auto across = straddlers_.find(physical);
  if (across == straddlers_.end()) return;
  for (Block *b : across->second) {
    retire(*b);
    Block **link = &b->page->slots[CodePage::hash(b->offset)];
    while (*link && *link != b) link = &(*link)->next;
    if (*link) *link = b->next;
  }
  straddlers_.erase(across);
  (void)cpu;
}

void BlockCache::post(Cpu &cpu, Request request) {
  const std::lock_guard lock(mutex_);
  requests_.push_back(request);
  posted_.fetch_add(1);
  cpu.need(kAttentionCode);
}

void BlockCache::process(Cpu &cpu) {
  std::vector<Request> requests;
  {
    const std::lock_guard lock(mutex_);
    requests.swap(requests_);
    cpu.attention.fetch_and(~static_cast<u32>(kAttentionCode));
  }
  for (const Request &r : requests) {
    if (r.drop_code) {
      drop_page(cpu, r.page.value);
      continue;
    }
    drop_write_translations(cpu, r.page);
  }
  processed_.fetch_add(requests.size());
}

} // namespace abyme::soft
