#include "net/capture/pcapng.hpp"
#include <cstring>

namespace abyme::net::pcapng {
namespace {

constexpr u16 kEnd = 0, kComment = 1;

template <class T> void put(Bytes &out, T value) {
  const auto *p = reinterpret_cast<const u8 *>(&value);
  out.insert(out.end(), p, p + sizeof value);
}

void put_padded(Bytes &out, std::span<const u8> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
  out.resize((out.size() + 3) & ~std::size_t{3});
}

void option(Bytes &out, u16 code, std::span<const u8> value) {
  put(out, code);
  put(out, static_cast<u16>(value.size()));
  put_padded(out, value);
}

void option(Bytes &out, u16 code, std::string_view value) {
  option(out, code, std::span(reinterpret_cast<const u8 *>(value.data()), value.size()));
}

// A block: type, length, body, length again.
template <class Body> void block(Bytes &out, u32 type, Body body) {
  const std::size_t start = out.size();
  put(out, type);
  put(out, u32{0});
  body();
  const u32 length = static_cast<u32>(out.size() - start + 4);
  put(out, length);
  std::memcpy(&out[start + 4], &length, sizeof length);
}

} // namespace

void section(Bytes &out, std::string_view application) {
  block(out, 0x0a0d'0d0a, [&] {
    put(out, u32{0x1a2b'3c4d});
    put(out, u16{1});
    put(out, u16{0});
    put(out, ~u64{0}); // length not given
    option(out, 4, application);
    option(out, kEnd, std::string_view());
  });
}

void interface(Bytes &out, std::string_view name, std::string_view description) {
  block(out, 1, [&] {
    put(out, u16{1}); // LINKTYPE_ETHERNET
    put(out, u16{0});
    put(out, u32{0}); // no snap length
    option(out, 2, name);
    option(out, 3, description);
    const u8 nanoseconds = 9;
    option(out, 9, std::span(&nanoseconds, 1));
    option(out, kEnd, std::string_view());
  });
}

void packet(Bytes &out, const Packet &p) {
  block(out, 6, [&] {
    put(out, p.interface);
    put(out, static_cast<u32>(p.nanoseconds >> 32));
    put(out, static_cast<u32>(p.nanoseconds));
    put(out, static_cast<u32>(p.bytes.size()));
    put(out, p.original_length);
    put_padded(out, p.bytes);
    const u32 flags = p.inbound ? 1 : 2;
    option(out, 2, std::span(reinterpret_cast<const u8 *>(&flags), sizeof flags));
    if (!p.comment.empty()) option(out, kComment, p.comment);
    option(out, kEnd, std::string_view());
  });
}

} // namespace abyme::net::pcapng
