#pragma once
#include "base/address.hpp"
#include "base/fd.hpp"
#include "base/result.hpp"
#include <atomic>
#include <cstring>
#include <memory>
#include <span>

namespace abyme {

// The hole below 4 GiB in which devices live: RAM beyond kHoleStart goes on at kHoleEnd.
constexpr u64 kHoleStart = 0xC000'0000;
constexpr u64 kHoleEnd = 0x1'0000'0000;

// Told when decoded code was written to; the page's lines have been cleared.
class CodeListener {
public:
  virtual ~CodeListener() = default;
  virtual void code_written(Gpa page) = 0;
};

// A VM's RAM: one memfd, mapped once, reserved lazily. Every method is safe to call from any thread.
class GuestMemory {
public:
  [[nodiscard]] static Result<std::unique_ptr<GuestMemory>> create(u64 size);
  ~GuestMemory();
  GuestMemory(const GuestMemory &) = delete;
  GuestMemory &operator=(const GuestMemory &) = delete;

  struct Region {
    Gpa start;
    u64 size;
    u8 *host;
    u64 fd_offset;
  };
  [[nodiscard]] std::span<const Region> regions() const { return {regions_, region_count_}; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] u64 size() const { return size_; }

  // Where [at, at + size) lies on the host, or nullptr unless all of it is RAM. Whoever writes through the pointer calls
  // note_written() afterwards.
  [[nodiscard]] u8 *host(Gpa at, u64 size) const {
    const u64 low = regions_[0].size;
    if (at.value < low && size <= low - at.value) return regions_[0].host + at.value;
    return host_high(at, size);
  }
  // The way back: the guest-physical address of a host pointer into RAM.
  [[nodiscard]] Gpa gpa(const u8 *host) const {
    const u64 offset = static_cast<u64>(host - base_);
    return offset < regions_[0].size ? Gpa(offset) : Gpa(kHoleEnd + offset - regions_[0].size);
  }

  // Copies; false (and nothing is done) unless the whole range is RAM.
  [[nodiscard]] bool read(Gpa at, void *to, u64 size) const;
  [[nodiscard]] bool write(Gpa at, const void *from, u64 size);
  template <class T> [[nodiscard]] bool load(Gpa at, T &value) const { return read(at, &value, sizeof value); }
  template <class T> [[nodiscard]] bool store(Gpa at, const T &value) { return write(at, &value, sizeof value); }
  void note_written(Gpa at, u64 size);

  // Which 64-byte lines of a page hold decoded code, one bit each. A page with any is never written through a cached translation, so each
  // write to it can be compared with the lines. `page` must be RAM.
  [[nodiscard]] bool is_code(Gpa page) const { return code_[index(page)].load(std::memory_order_relaxed) != 0; }
  void add_code(Gpa page, u64 lines) { code_[index(page)].fetch_or(lines, std::memory_order_seq_cst); }
  void set_code_listener(CodeListener *listener) { listener_ = listener; } // before any vCPU runs

  // Back to zeroes, as after power-on.
  void clear();

private:
  GuestMemory() = default;
  [[nodiscard]] u8 *host_high(Gpa at, u64 size) const;
  [[nodiscard]] u64 index(Gpa page) const {
    return (page.value < kHoleStart ? page.value : page.value - kHoleEnd + regions_[0].size) / kPageSize;
  }

  Fd fd_;
  u64 size_ = 0;
  u8 *base_ = nullptr;
  Region regions_[2]{};
  u64 region_count_ = 0;
  std::atomic<u64> *code_ = nullptr; // a page's lines; reserved lazily
  CodeListener *listener_ = nullptr;
};

} // namespace abyme
