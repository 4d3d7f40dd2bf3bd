#include "machine/acpi/tables.hpp"
#include "machine/memory_map.hpp"
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <numeric>

namespace abyme::machine::acpi {
namespace {

constexpr Gpa kAt = kTablesStart;

unsigned sum(ByteView bytes) { return std::accumulate(bytes.begin(), bytes.end(), 0u) & 0xFF; }

// Follows pointers from the RSDP, as an operating system does.
class Tables : public testing::Test {
protected:
  [[nodiscard]] ByteView at(u64 address) const {
    EXPECT_GE(address, kAt.value);
    const u64 offset = address - kAt.value;
    const auto length = read_le<u32>(all, offset + 4);
    EXPECT_TRUE(length);
    const auto part = slice(all, offset, length.value_or(0));
    EXPECT_TRUE(part) << "table at " << std::hex << address << " reaches beyond the tables";
    return part.value_or(ByteView{});
  }
  [[nodiscard]] std::string signature(ByteView table) const { return {table.begin(), table.begin() + 4}; }
  [[nodiscard]] ByteView find(const std::string &wanted) const {
    const ByteView xsdt = at(*read_le<u64>(all, 24));
    for (u64 i = 36; i + 8 <= xsdt.size(); i += 8)
      if (const auto table = at(*read_le<u64>(xsdt, i)); signature(table) == wanted) return table;
    return {};
  }
  Bytes all = make_tables({.cpus = 16}, kAt);
};

TEST_F(Tables, FitWhereAGuestLooks) { EXPECT_LE(all.size(), kTablesEnd - kTablesStart); }

TEST_F(Tables, RsdpHasBothChecksums) {
  EXPECT_EQ(std::string(all.begin(), all.begin() + 8), "RSD PTR ");
  EXPECT_EQ(sum(ByteView(all).first(20)), 0u);
  EXPECT_EQ(sum(ByteView(all).first(36)), 0u);
}

TEST_F(Tables, EveryTableHasItsChecksum) {
  EXPECT_EQ(sum(at(*read_le<u64>(all, 24))), 0u);
  for (const char *wanted : {"FACP", "APIC", "MCFG"}) {
    const auto table = find(wanted);
    ASSERT_GE(table.size(), 36u) << wanted;
    EXPECT_EQ(sum(table), 0u) << wanted;
  }
  const auto dsdt = at(*read_le<u64>(find("FACP"), 140));
  EXPECT_EQ(signature(dsdt), "DSDT");
  EXPECT_EQ(sum(dsdt), 0u);
}

TEST_F(Tables, FadtLeadsToFacsAndReset) {
  const auto fadt = find("FACP");
  const u64 facs = *read_le<u32>(fadt, 36);
  EXPECT_EQ(facs % 64, 0u);
  EXPECT_EQ(signature(at(facs)), "FACS");
  EXPECT_EQ(*read_le<u64>(fadt, 120), 0xCF9u);
  EXPECT_EQ(fadt[128], 6);
}

TEST_F(Tables, MadtListsEveryProcessor) {
  const auto madt = find("APIC");
  std::vector<u8> apic_ids;
  for (u64 i = 44; i < madt.size(); i += madt[i + 1]) {
    ASSERT_GT(madt[i + 1], 0);
    if (madt[i] == 0) apic_ids.push_back(madt[i + 3]);
  }
  std::vector<u8> expected(16);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(apic_ids, expected);
}

class TemporaryDirectory {
public:
  TemporaryDirectory() {
    char name[] = "/tmp/abyme-acpi-XXXXXX";
    path = mkdtemp(name);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }
  std::filesystem::path path;
};

// Intel's own compiler reads our bytes back, and compiles what it read without errors.
TEST(Dsdt, DisassemblesAndCompilesAgain) {
  if (std::system("command -v iasl >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "iasl (Debian: acpica-tools) is not installed";
  const TemporaryDirectory directory;
  const Bytes dsdt = make_dsdt({.cpus = 4});
  std::ofstream(directory.path / "dsdt.aml", std::ios::binary)
      .write(reinterpret_cast<const char *>(dsdt.data()), static_cast<std::streamsize>(dsdt.size()));
  const auto run = [&](const std::string &command) {
    return std::system(("cd " + directory.path.string() + " && " + command + " >log 2>&1").c_str());
  };
  const auto log = [&] { return (std::stringstream() << std::ifstream(directory.path / "log").rdbuf()).str(); };
  EXPECT_EQ(run("iasl -d dsdt.aml"), 0) << log();
  EXPECT_EQ(run("iasl -we -p again dsdt.dsl"), 0) << log();
  std::ifstream again(directory.path / "again.aml", std::ios::binary);
  const Bytes compiled{std::istreambuf_iterator<char>(again), {}};
  ASSERT_GT(compiled.size(), 36u);
  // The header names the compiler; what follows must be the same.
  EXPECT_EQ(Bytes(compiled.begin() + 36, compiled.end()), Bytes(dsdt.begin() + 36, dsdt.end()));
}

} // namespace
} // namespace abyme::machine::acpi
