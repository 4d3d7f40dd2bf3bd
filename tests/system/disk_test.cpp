#include "system/fixture.hpp"

// Disks as a guest's kernel drives them, through the reset of the machine that it asks for.
namespace abyme::system_test {
namespace {

constexpr size_t kMiB = 1 << 20, kLength = 4 * kMiB;

std::string numbers() {
  std::string text;
  for (unsigned i = 1; text.size() < kLength; i++) text += std::to_string(i) + "\n";
  text.resize(kLength);
  return text;
}

// First boot: writes and asks for a reset. Second boot: reads back.
constexpr const char *kScript = R"sh(
if [ "$(head -c 5 /dev/vda)" = fresh ]; then
  echo "cache=$(cat /sys/block/vda/queue/write_cache) vda=$(cat /sys/block/vda/ro) vdb=$(cat /sys/block/vdb/ro)"
  dd if=/numbers of=/dev/vda bs=64k seek=16 conv=notrunc,fsync 2>/dev/null && echo written
  echo used! | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null
  echo changed | dd of=/dev/vdb conv=notrunc,fsync 2>/dev/null || echo vdb=refused
  reboot -f
fi
dd if=/dev/vda bs=64k skip=16 count=64 2>/dev/null | cmp - /numbers && echo same
blkdiscard -o 1048576 -l 1048576 /dev/vda && echo discarded
)sh";

TEST_F(CloudKernel, DiskKeepsWhatWasWrittenAcrossAReset) {
  std::string disk(16 * kMiB, '\0');
  disk.replace(0, 5, "fresh");
  ASSERT_NO_FATAL_FAILURE(write_file("vda", disk));
  ASSERT_NO_FATAL_FAILURE(write_file("vdb", std::string(kMiB, 'r')));
  const auto text = numbers();
  ASSERT_NO_FATAL_FAILURE(make_guest({.script = kScript,
                                      .modules = {"virtio_pci", "virtio_blk"},
                                      .files = {{"/numbers", {text.begin(), text.end()}}}}));
  auto setting = here();
  setting.environment = {"LD_PRELOAD=" FLUSH_WITNESS, "FLUSH_WITNESS=" + path("flushes")};
  Process vm(run_guest("quiet", {"--disk", "vda", "--disk", "vdb,ro", "--stats", "stats"}), setting);

  ASSERT_TRUE(vm.says("cache=write back vda=0 vdb=1", kBoot)) << vm.report();
  const size_t flushed = read_file("flushes").size();
  ASSERT_TRUE(vm.says("written", kBoot)) << vm.report();
  EXPECT_GT(read_file("flushes").size(), flushed) << "the guest's fsync() returned without one of ours";
  EXPECT_EQ(read_file("vda").substr(kMiB, kLength), text);
  EXPECT_TRUE(vm.says("vdb=refused", kBoot)) << vm.report();
  EXPECT_TRUE(vm.says("same", kBoot)) << vm.report();
  EXPECT_TRUE(vm.says("discarded", kBoot)) << vm.report();
  EXPECT_EQ(vm.ends(kBoot), 0) << vm.report();

  EXPECT_THAT(read_file("stats"), HasSubstr("\"resets\": 1"));
  const auto after = read_file("vda");
  EXPECT_EQ(after.substr(0, 5), "used!");
  EXPECT_EQ(after.substr(kMiB, kMiB), std::string(kMiB, '\0'));
  EXPECT_EQ(after.substr(2 * kMiB, kLength - kMiB), text.substr(kMiB));
  EXPECT_EQ(after.size(), disk.size());
  EXPECT_EQ(read_file("vdb"), std::string(kMiB, 'r'));
}

} // namespace
} // namespace abyme::system_test
