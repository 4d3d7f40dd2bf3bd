#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
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

} // namespace
} // namespace abyme::cli
