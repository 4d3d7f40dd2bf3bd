#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <sys/wait.h>

// What a user sees of bad input: status 2, a message that names it, and nothing left behind.
namespace abyme::cli {
namespace {

using testing::HasSubstr;

class Run : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/abyme-run-XXXXXX";
    directory = mkdtemp(name);
    std::ofstream(directory / "text") << "this is not a kernel";
  }
  void TearDown() override { std::filesystem::remove_all(directory); }

  struct Answer {
    int status;
    std::string text; // of both streams
  };
  [[nodiscard]] Answer run(const std::string &arguments) const {
    const std::string command =
        "cd " + directory.string() + " && " ABYME_BINARY " run " + arguments + " </dev/null 2>&1";
    FILE *pipe = popen(command.c_str(), "r");
    Answer answer{};
    std::array<char, 4096> buffer;
    while (const size_t got = fread(buffer.data(), 1, buffer.size(), pipe)) answer.text.append(buffer.data(), got);
    const int status = pclose(pipe);
    answer.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return answer;
  }
  void expect_refusal(const std::string &arguments, const std::string &words) const {
    const auto answer = run(arguments);
    EXPECT_EQ(answer.status, 2) << arguments << "\n" << answer.text;
    EXPECT_THAT(answer.text, HasSubstr(words)) << arguments;
  }
  std::filesystem::path directory;
};

TEST_F(Run, HelpTeachesAndExitsWithZero) {
  const auto answer = run("--help");
  EXPECT_EQ(answer.status, 0);
  for (const char *word : {"--kernel", "console=ttyS0", "triple fault", "130", "--trace"})
    EXPECT_THAT(answer.text, HasSubstr(word));
}

TEST_F(Run, RefusesBadOptions) {
  expect_refusal("", "--kernel");
  expect_refusal("--kernel text --memory 512", "512M");
  expect_refusal("--kernel text --memory 1G1", "--memory");
  expect_refusal("--kernel text --cpus 0", "1 to 16");
  expect_refusal("--kernel text --cpus 17", "1 to 16");
  expect_refusal("--kernel text --cpus -1", "--cpus");
  expect_refusal("--kernel text --accel tcg", "soft");
  expect_refusal("--kernel text --console tcp:1", "socket:PATH");
  expect_refusal("--kernel text --console none --console none --console none", "at most two");
  expect_refusal("--kernel text --net vhost-user:a --net tap0", "tap0");
  expect_refusal("--kernel text --net tap0", "vhost-user:PATH");
  expect_refusal("--kernel text --trace nothing", "exceptions");
  expect_refusal("--kernel text --accel kvm --trace exits", "--accel soft");
  expect_refusal("--kernel text --accel soft --cpu pentium9", "pentium9");
  expect_refusal("--kernel text --nonsense", "--nonsense");
}

TEST_F(Run, RefusesBadFiles) {
  expect_refusal("--accel soft --kernel nowhere", "No such file");
  expect_refusal("--accel soft --kernel .", "not a regular file");
  expect_refusal("--accel soft --kernel /dev/zero", "not a regular file");
  expect_refusal("--accel soft --kernel text", "not a kernel");
  expect_refusal("--accel soft --kernel text --initrd nowhere", "nowhere");
  expect_refusal("--accel soft --kernel text --disk nowhere.img", "nowhere.img");
}

TEST_F(Run, LeavesNothingBehindWhenItRefuses) {
  expect_refusal("--accel soft --kernel text --console file:console --console socket:socket", "not a kernel");
  EXPECT_FALSE(std::filesystem::exists(directory / "console"));
  EXPECT_FALSE(std::filesystem::exists(directory / "socket"));
}

// ---- how a guest ends: a multiboot kernel that is little more than the code it is made of

constexpr std::array<unsigned char, 11> kPowerOff{
    0x66, 0xB8, 0x00, 0x20, 0x66, 0xBA, 0x04, 0x06, 0x66, 0xEF, 0xF4}; // mov ax, 0x2000; mov dx, 0x604; out dx, ax; hlt
constexpr std::array<unsigned char, 8> kReset{0xB0, 0x06, 0x66, 0xBA,
                                              0xF9, 0x0C, 0xEE, 0xF4}; // mov al, 6; mov dx, 0xcf9; out dx, al; hlt
constexpr std::array<unsigned char, 5> kDebugExit{0xB0, 0x10, 0xE6, 0xF4, 0xF4}; // mov al, 0x10; out 0xf4, al; hlt
constexpr std::array<unsigned char, 2> kTripleFault{0x0F, 0x0B};                 // ud2, without an IDT
constexpr std::array<unsigned char, 10> kPrint{0xB0, '!',  0x66, 0xBA, 0xF8, 0x03,
                                               0xEE, 0x0F, 0x0B, 0xF4}; // mov al, '!'; mov dx, 0x3f8; out dx, al; ud2

class Guest : public Run {
protected:
  template <size_t N> void write_guest(const std::array<unsigned char, N> &code) const {
    constexpr unsigned kBase = 0x100000, kMagic = 0x1BADB002, kAddressFields = 1 << 16;
    const std::array<unsigned, 8> header{kMagic, kAddressFields, -(kMagic + kAddressFields), kBase, kBase, 0,
                                         0,      kBase + 32};
    std::ofstream file(directory / "guest", std::ios::binary);
    file.write(reinterpret_cast<const char *>(header.data()), sizeof header);
    file.write(reinterpret_cast<const char *>(code.data()), N);
  }
  [[nodiscard]] Answer run_guest(const std::string &arguments = "") const {
    return run("--kernel guest --accel soft --memory 16M " + arguments);
  }
};

TEST_F(Guest, PowerOffIsZero) {
  write_guest(kPowerOff);
  const auto answer = run_guest();
  EXPECT_EQ(answer.status, 0) << answer.text;
  EXPECT_THAT(answer.text, HasSubstr("engine soft: as asked"));
  EXPECT_THAT(answer.text, HasSubstr("powered off"));
}

TEST_F(Guest, ResetIsThreeWithNoReboot) {
  write_guest(kReset);
  EXPECT_EQ(run_guest("--no-reboot").status, 3);
}

TEST_F(Guest, DebugExitFollowsQemu) {
  write_guest(kDebugExit);
  EXPECT_EQ(run_guest("--testdev").status, 0x21);
}

TEST_F(Guest, TripleFaultIsFour) {
  write_guest(kTripleFault);
  const auto answer = run_guest();
  EXPECT_EQ(answer.status, 4) << answer.text;
  EXPECT_THAT(answer.text, HasSubstr("triple fault"));
}

TEST_F(Guest, TheConsoleCanBeAFile) {
  write_guest(kPrint);
  EXPECT_EQ(run_guest("--console file:console").status, 4);
  std::ifstream file(directory / "console");
  EXPECT_EQ((std::string{std::istreambuf_iterator<char>(file), {}}), "!");
}

TEST_F(Guest, StatsAreJson) {
  write_guest(kPowerOff);
  EXPECT_EQ(run_guest("--stats stats").status, 0);
  const auto stats = nlohmann::json::parse(std::ifstream(directory / "stats"));
  EXPECT_EQ(stats.at("engine"), "soft");
  EXPECT_EQ(stats.at("end"), "power-off");
  EXPECT_EQ(stats.at("exit_status"), 0);
  EXPECT_GE(stats.at("instructions"), 3);
}

} // namespace
} // namespace abyme::cli
