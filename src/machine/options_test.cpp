#include "machine/options.hpp"
#include <gtest/gtest.h>

namespace abyme::machine {
namespace {

TEST(Options, MemoryTakesUnitsWithinBounds) {
  EXPECT_EQ(parse_memory("16M").value(), 16_MiB);
  EXPECT_EQ(parse_memory("64G").value(), 64_GiB);
  EXPECT_EQ(parse_memory("16388K").value(), 16388_KiB);
  for (const char *bad :
       {"", "M", "512", "15M", "65G", "16385K", "-1G", "1 G", "18446744073709551615G", "0x10M", "1T", "1GiB", "512m"})
    EXPECT_FALSE(parse_memory(bad)) << bad;
}

TEST(Options, DiskMayBeReadOnly) {
  EXPECT_EQ(parse_disk("a,b.img").value(), (DiskConfig{"a,b.img", false}));
  EXPECT_EQ(parse_disk("a.img,ro").value(), (DiskConfig{"a.img", true}));
  EXPECT_FALSE(parse_disk(""));
  EXPECT_FALSE(parse_disk(",ro"));
}

TEST(Options, NetIsAVhostUserSocket) {
  EXPECT_EQ(parse_net("vhost-user:/run/x").value().socket, "/run/x");
  EXPECT_FALSE(parse_net("vhost-user:"));
  EXPECT_FALSE(parse_net("tap0"));
}

TEST(Options, NetHasAMacAddressOfItsOwn) {
  EXPECT_EQ(parse_net("vhost-user:/x,mac=02:00:00:00:0a:FF").value().mac, (MacAddress{2, 0, 0, 0, 10, 255}));
  const auto mac = parse_net("vhost-user:/x").value().mac;
  EXPECT_EQ(mac, parse_net("vhost-user:/x").value().mac);
  EXPECT_NE(mac, parse_net("vhost-user:/y").value().mac);
  EXPECT_EQ(mac[0] & 3, 2);
  for (const char *bad :
       {"", "02:00:00:00:00", "01:00:00:00:00:01", "00:00:00:00:00:00", "02-00-00-00-00-01", "02:00:00:00:00:0g"})
    EXPECT_FALSE(parse_net(std::string("vhost-user:/x,mac=") + bad)) << bad;
}

TEST(Options, ConsoleKinds) {
  using Kind = ConsoleSpec::Kind;
  EXPECT_EQ(parse_console("stdio").value().kind, Kind::Stdio);
  EXPECT_EQ(parse_console("socket:/a b").value().path, "/a b");
  EXPECT_EQ(parse_console("file:x").value().kind, Kind::File);
  for (const char *bad : {"", "file:", "socket:", "tcp:1", "stdio:"}) EXPECT_FALSE(parse_console(bad)) << bad;
}

TEST(Options, TraceCombinesKindsAndFilters) {
  const auto options = parse_trace("exits,io,level=2,rip=0x1000-1fff,file=/tmp/t").value();
  EXPECT_EQ(options.kinds, soft::kTraceExits | soft::kTraceIo);
  EXPECT_EQ(options.level, 2);
  EXPECT_EQ(options.first, 0x1000u);
  EXPECT_EQ(options.last, 0x1fffu);
  EXPECT_EQ(options.path, "/tmp/t");
  EXPECT_EQ(parse_trace("blocks,rip=40").value().last, 0x40u);
  for (const char *bad :
       {"", "exit", "level=1", "exits,", "exits,level=3", "exits,rip=2-1", "exits,rip=", "exits,file="})
    EXPECT_FALSE(parse_trace(bad)) << bad;
}

TEST(Options, ErrorsNameWhatIsRight) {
  EXPECT_NE(parse_trace("exit").error().message.find("exceptions"), std::string::npos);
  EXPECT_NE(parse_accel("tcg").error().message.find("soft"), std::string::npos);
}

} // namespace
} // namespace abyme::machine
