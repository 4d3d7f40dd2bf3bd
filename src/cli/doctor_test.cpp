#include "cli/text.hpp"
#include "cli/verbs.hpp"
#include <CLI/CLI.hpp>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>
#include <sstream>

namespace abyme::cli {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

struct Outcome {
  int status;
  std::string text;
};

Outcome run(void (*add)(CLI::App &, int &), const std::string &arguments) {
  CLI::App app;
  int status = -1;
  add(app, status);
  testing::internal::CaptureStdout();
  app.parse(arguments);
  std::fflush(stdout);
  return {status, testing::internal::GetCapturedStdout()};
}

void expect_no_wide_line(const std::string &text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), kColumns) << line;
}

TEST(Doctor, EachNoSaysHowToChangeIt) {
  const auto [status, text] = run(add_doctor, "doctor");
  EXPECT_EQ(status, 0) << "the software CPU works wherever this test runs";
  expect_no_wide_line(text);
  size_t refusals = 0, remedies = 0;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    refusals += line.starts_with("no ");
    remedies += line.find("to change it: ") != line.npos;
  }
  EXPECT_EQ(refusals, remedies) << text;
  EXPECT_THAT(text, HasSubstr("--accel auto picks"));
}

TEST(Doctor, JsonSaysTheSame) {
  const auto [status, text] = run(add_doctor, "doctor --json");
  const auto report = nlohmann::json::parse(text);
  EXPECT_EQ(status, 0);
  EXPECT_THAT(report["auto"]["engine"].get<std::string>(), AnyOf("kvm", "soft"));
  EXPECT_TRUE(report["engines"]["soft"].get<bool>());
  for (const auto &f : report["findings"]) EXPECT_EQ(f["verdict"] == "no", f.contains("remedy")) << f;
}

TEST(CpuModels, ListsThemAllWithinTheColumns) {
  const auto [status, text] = run(add_cpu_models, "cpu-models");
  EXPECT_EQ(status, 0);
  expect_no_wide_line(text);
  for (const char *model : {"nehalem: ", "haswell: ", "max: "}) EXPECT_THAT(text, HasSubstr(model));
}

TEST(CpuModels, JsonNamesWhatEachEngineGives) {
  const auto models = nlohmann::json::parse(run(add_cpu_models, "cpu-models --json").text);
  ASSERT_EQ(models.size(), 3u);
  for (const auto &model : models) {
    EXPECT_FALSE(model["name"].get<std::string>().empty());
    EXPECT_TRUE(model["engines"].contains("soft") && model["engines"].contains("kvm"));
  }
  EXPECT_THAT(models[2]["engines"]["soft"]["features"], testing::Contains("vmx"));
}

} // namespace
} // namespace abyme::cli
