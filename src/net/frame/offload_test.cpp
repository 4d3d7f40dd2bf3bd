#include "net/frame/offload.hpp"
#include <gtest/gtest.h>
#include <numeric>

namespace abyme::net {
namespace {

std::vector<u8> tcp4(std::size_t payload) {
  std::vector<u8> f(54 + payload);
  MacAddress{0x5254'0000'0002}.store(&f[0]);
  MacAddress{0x5254'0000'0001}.store(&f[6]);
  store_be16(&f[12], 0x0800);
  f[14] = 0x45, f[22] = 64, f[23] = 6;
  store_be16(&f[16], static_cast<u16>(f.size() - 14));
  store_be32(&f[26], 0x0a000001);
  store_be32(&f[30], 0x0a000002);
  store_be32(&f[38], 1000);
  f[46] = 0x50, f[47] = 0x19; // FIN, PSH, ACK
  std::iota(f.begin() + 54, f.end(), 0);
  return f;
}

u16 tcp_sum(const Frame &f) {
  const u32 length = f.length - 34;
  return checksum_fold(checksum_add(checksum_add(6 + length, {f.data + 26, 8}), {f.data + 34, length}));
}

TEST(Offload, ChecksumOfOddLengthsAgreesWithTheSimpleSum) {
  std::vector<u8> bytes(101);
  std::iota(bytes.begin(), bytes.end(), 200);
  for (std::size_t n = 0; n <= bytes.size(); n++) {
    u64 simple = 0;
    for (std::size_t i = 0; i < n; i++) simple += i % 2 ? bytes[i] : bytes[i] << 8;
    EXPECT_EQ(checksum_fold(checksum_add(0, {bytes.data(), n})), checksum_fold(simple)) << n;
  }
}

TEST(Offload, SegmentsCarryTheWholePayloadWithGoodChecksums) {
  auto bytes = tcp4(5000);
  Frame f{.data = bytes.data(), .length = static_cast<u32>(bytes.size())};
  f.offload = {.flags = kNeedsChecksum,
               .gso_type = kGsoTcp4,
               .header_length = 54,
               .gso_size = 1448,
               .checksum_start = 34,
               .checksum_offset = 16};
  ASSERT_TRUE(plausible(f));
  FrameBatch scratch;
  std::vector<u8> payload;
  unsigned count = 0;
  segment(f, scratch, [&](std::span<Frame> frames) {
    for (const Frame &s : frames) {
      EXPECT_EQ(load_be16(s.data + 16), s.length - 14);
      EXPECT_EQ(checksum_fold(checksum_add(0, {s.data + 14, 20})), 0);
      EXPECT_EQ(tcp_sum(s), 0);
      EXPECT_EQ(load_be32(s.data + 38), 1000 + payload.size());
      payload.insert(payload.end(), s.data + 54, s.data + s.length);
      EXPECT_EQ(s.data[47] & 9, payload.size() == 5000 ? 9 : 0);
      count++;
    }
  });
  EXPECT_EQ(count, 4u);
  EXPECT_EQ(payload, std::vector<u8>(bytes.begin() + 54, bytes.end()));
}

TEST(Offload, LeftOverChecksumIsCompleted) {
  auto bytes = tcp4(33);
  Frame f{.data = bytes.data(), .length = static_cast<u32>(bytes.size())};
  f.offload = {.flags = kNeedsChecksum, .checksum_start = 34, .checksum_offset = 16};
  const u64 pseudo = checksum_add(6 + 20 + 33, {f.data + 26, 8});
  store_be16(f.data + 50, static_cast<u16>(~checksum_fold(pseudo)));
  complete_checksum(f);
  EXPECT_EQ(tcp_sum(f), 0);
}

TEST(Offload, WhatDoesNotFitIsImplausible) {
  auto bytes = tcp4(100);
  Frame f{.data = bytes.data(), .length = static_cast<u32>(bytes.size())};
  const Offload good{
      .flags = kNeedsChecksum, .gso_type = kGsoTcp4, .gso_size = 48, .checksum_start = 34, .checksum_offset = 16};
  const auto with = [&](auto change) {
    f.offload = good;
    change(f.offload);
    return plausible(f);
  };
  EXPECT_TRUE(with([](Offload &) {}));
  EXPECT_FALSE(with([](Offload &o) { o.checksum_start = 60000; }));
  EXPECT_FALSE(with([](Offload &o) { o.checksum_start = 35; }));
  EXPECT_FALSE(with([](Offload &o) { o.checksum_offset = 200; }));
  EXPECT_FALSE(with([](Offload &o) { o.gso_size = 0; }));
  EXPECT_FALSE(with([](Offload &o) { o.gso_type = 3; }));
  EXPECT_FALSE(with([](Offload &o) { o.gso_type = kGsoTcp6; }));
  EXPECT_FALSE(with([](Offload &o) { o.flags = 0; }));
}

} // namespace
} // namespace abyme::net
