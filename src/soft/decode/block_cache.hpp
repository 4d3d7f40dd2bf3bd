#pragma once
#include "soft/cpu.hpp"
#include "base/address.hpp"
#include "soft/decode/block.hpp"
#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace abyme::soft {

// Makes a page's writes visible to every vCPU's cache before its bytes are decoded; the engine's part of the protocol below.
class CodeSync {
public:
  virtual ~CodeSync() = default;
  // Returns when no other vCPU can write to the page through a cached translation. `self` keeps answering its own requests meanwhile.
  virtual void retire_writers(Gpa page, Cpu &self) = 0;
};

// The decoded code of one vCPU, by physical page.
//
// Invariant: a page with code lines (GuestMemory::is_code) is in no TLB for writing. So every write to it takes the slow path, which
// compares it with the lines; a hit clears them and sends drop_page to every vCPU (GuestMemory::note_written -> engine -> post()).
// A block is decoded from a copy; then its lines are added, writers are retired, and the copy is compared with memory once more.
class BlockCache {
public:
  BlockCache(size_t bytes, CodeSync &sync);
  ~BlockCache();

  // --- own thread ---
  // The block at the current CS:RIP; nullptr with cpu.fault set where the code cannot be fetched.
  [[nodiscard]] Block *find(Cpu &cpu, bool single);
  // The own vCPU wrote to a page that holds code.
  void written(Cpu &cpu, u64 physical, unsigned size);
  // Does what others posted.
  void process(Cpu &cpu);
  // A place that lives as long as the blocks, or nullptr: the cache is full and is emptied at the next find().
  [[nodiscard]] void *allocate(size_t bytes);
  void forget_all(Cpu &cpu);

  // --- any thread ---
  struct Request {
    Gpa page;
    bool drop_code; // else: only the write translations
  };
  void post(Cpu &cpu, Request request);
  // Number of requests posted and done so far, for waiting.
  [[nodiscard]] u64 posted() const { return posted_.load(); }
  [[nodiscard]] u64 processed() const { return processed_.load(); }

private:
  [[nodiscard]] CodePage *page_at(Cpu &cpu, u64 physical);
  [[nodiscard]] CodePage *fetch_page(Cpu &cpu, u64 linear);
  [[nodiscard]] Block *build(Cpu &cpu, CodePage &page, u16 offset, u64 linear, u32 mode);
  [[nodiscard]] Block *publish(Cpu &cpu, CodePage &page, CodePage *second, Op *ops, const bool *links, unsigned count, u16 offset,
                               unsigned length, u32 mode);
  void become_code(Cpu &cpu, u64 physical, u64 lines);
  void drop_page(Cpu &cpu, u64 physical);

  CodeSync &sync_;
  u8 *arena_;
  size_t arena_size_;
  size_t arena_used_ = 0;
  bool full_ = false;
  std::unordered_map<u64, std::unique_ptr<CodePage>> pages_;
  std::unordered_map<u64, std::vector<Block *>> straddlers_; // by the page of their second half

  std::mutex mutex_;
  std::vector<Request> requests_; // under mutex_
  std::atomic<u64> posted_ = 0, processed_ = 0;
};

} // namespace abyme::soft
