#include "machine/acpi/aml.hpp"
#include <algorithm>

namespace abyme::machine::aml {
namespace {

enum Opcode : u8 {
  kName = 0x08,
  kBytePrefix = 0x0A,
  kWordPrefix = 0x0B,
  kDwordPrefix = 0x0C,
  kStringPrefix = 0x0D,
  kQwordPrefix = 0x0E,
  kScope = 0x10,
  kBuffer = 0x11,
  kPackage = 0x12,
  kDualName = 0x2E,
  kMultiName = 0x2F,
  kExtended = 0x5B,
  kDevice = 0x82, // after kExtended
};

constexpr size_t kSegment = 4;

Bytes name_string(std::string_view path) {
  Bytes bytes;
  const size_t segments = (path.size() + 1) / (kSegment + 1);
  if (segments == 2) bytes.push_back(kDualName);
  if (segments > 2) {
    bytes.push_back(kMultiName);
    bytes.push_back(static_cast<u8>(segments));
  }
  for (size_t i = 0; i < segments; i++) append_text(bytes, path.substr(i * (kSegment + 1), kSegment));
  return bytes;
}

// §20.2.4: the length counts its own bytes too; the first one holds 6 bits, or 4 and the number of those that follow.
Bytes package_length(size_t body) {
  if (body + 1 < 0x40) return {static_cast<u8>(body + 1)};
  unsigned following = 1;
  while (body + 1 + following >= u64{1} << (4 + 8 * following)) following++;
  const size_t length = body + 1 + following;
  Bytes bytes{static_cast<u8>(following << 6 | (length & 0xF))};
  for (unsigned i = 0; i < following; i++) bytes.push_back(static_cast<u8>(length >> (4 + 8 * i)));
  return bytes;
}

Bytes with_length(std::initializer_list<u8> opcode, const Bytes &body) {
  Bytes bytes(opcode);
  append(bytes, package_length(body.size()));
  append(bytes, body);
  return bytes;
}

Bytes named_body(std::string_view path, std::initializer_list<Bytes> terms) {
  Bytes body = name_string(path);
  for (const auto &term : terms) append(body, term);
  return body;
}

template <std::unsigned_integral T> Bytes prefixed(u8 prefix, T value) {
  Bytes bytes{prefix};
  append_le(bytes, value);
  return bytes;
}

// An address space descriptor (§6.4.3.5) of 16-bit (tag 0x88) or 32-bit (0x87) fields.
template <std::unsigned_integral T> Bytes address_space(u8 tag, u8 type, u8 type_flags, T first, T last) {
  constexpr u8 kFixedProducer = 0x0C; // _MIF and _MAF: both ends are fixed
  Bytes bytes{tag};
  append_le(bytes, static_cast<u16>(3 + 5 * sizeof(T)));
  for (const u8 value : {type, kFixedProducer, type_flags}) bytes.push_back(value);
  for (const T value : {T{0}, first, last, T{0}, static_cast<T>(last - first + 1)}) append_le(bytes, value);
  return bytes;
}

} // namespace

Bytes integer(u64 value) {
  if (value <= 1) return {static_cast<u8>(value)}; // ZeroOp, OneOp
  if (value <= 0xFF) return prefixed(kBytePrefix, static_cast<u8>(value));
  if (value <= 0xFFFF) return prefixed(kWordPrefix, static_cast<u16>(value));
  if (value <= 0xFFFF'FFFF) return prefixed(kDwordPrefix, static_cast<u32>(value));
  return prefixed(kQwordPrefix, value);
}

Bytes text(std::string_view value) {
  Bytes bytes{kStringPrefix};
  append_text(bytes, value);
  bytes.push_back(0);
  return bytes;
}

Bytes eisa_id(std::string_view id) {
  // Three letters of 5 bits and four hexadecimal digits, most significant first (§19.6.37).
  u32 value = 0;
  for (const char letter : id.substr(0, 3)) value = value << 5 | (static_cast<u32>(letter - 'A' + 1) & 0x1F);
  for (const char digit : id.substr(3))
    value = value << 4 | static_cast<u32>(digit <= '9' ? digit - '0' : digit - 'A' + 10);
  return prefixed(kDwordPrefix, __builtin_bswap32(value));
}

Bytes package(const std::vector<Bytes> &elements) {
  Bytes body{static_cast<u8>(elements.size())};
  for (const auto &element : elements) append(body, element);
  return with_length({kPackage}, body);
}
Bytes package(std::initializer_list<Bytes> elements) { return package(std::vector<Bytes>(elements)); }

Bytes name(std::string_view path, const Bytes &value) {
  Bytes bytes{kName};
  append(bytes, name_string(path));
  append(bytes, value);
  return bytes;
}
Bytes scope(std::string_view path, std::initializer_list<Bytes> terms) {
  return with_length({kScope}, named_body(path, terms));
}
Bytes device(std::string_view path, std::initializer_list<Bytes> terms) {
  return with_length({kExtended, kDevice}, named_body(path, terms));
}

Bytes resources(std::initializer_list<Bytes> descriptors) {
  Bytes list;
  for (const auto &descriptor : descriptors) append(list, descriptor);
  for (const u8 end : {0x79, 0x00}) list.push_back(end); // end tag, without a checksum
  Bytes body = integer(list.size());
  append(body, list);
  return with_length({kBuffer}, body);
}

Bytes io_ports(u16 base, u8 count) {
  Bytes bytes{0x47, 1}; // decodes 16 address bits
  append_le(bytes, base);
  append_le(bytes, base);
  bytes.push_back(1); // alignment
  bytes.push_back(count);
  return bytes;
}

Bytes irq(u8 line) {
  Bytes bytes{0x22};
  append_le(bytes, static_cast<u16>(1 << line));
  return bytes;
}

Bytes fixed_memory(u32 base, u32 size) {
  Bytes bytes{0x86, 9, 0, 1}; // read-write
  append_le(bytes, base);
  append_le(bytes, size);
  return bytes;
}

Bytes bus_numbers(u16 first, u16 last) { return address_space<u16>(0x88, 2, 0, first, last); }
Bytes port_window(u16 first, u16 last) { return address_space<u16>(0x88, 1, 3, first, last); } // ISA and other ports
Bytes memory_window(u32 first, u32 last) {
  return address_space<u32>(0x87, 0, 1, first, last);
} // read-write, not cacheable

} // namespace abyme::machine::aml
