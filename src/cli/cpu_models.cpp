#include "x86/cpu_models.hpp"
#include "cli/text.hpp"
#include "cli/verbs.hpp"
#include "kvm/system.hpp"
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace abyme::cli {
namespace {

using nlohmann::json;

struct EngineFeatures {
  std::string name;
  Result<x86::HostFeatures> features;
};

std::vector<EngineFeatures> engines() {
  return {{"kvm", kvm::host_features()}, {"soft", x86::software_cpu_features()}};
}

// What the model is on one engine: its features, or why it cannot be had.
Result<x86::FeatureSet> features_on(const x86::CpuModel &model, const EngineFeatures &engine) {
  if (!engine.features) return std::unexpected(engine.features.error());
  const auto profile = x86::make_profile(model.name, *engine.features, 1);
  if (!profile) return std::unexpected(profile.error());
  return profile->features;
}

std::string spaced_names(const x86::FeatureSet &set) {
  std::string names;
  for (const auto &row : x86::feature_table())
    if (x86::contains(set, row.feature)) names += fmt::format("{}{}", names.empty() ? "" : " ", row.name);
  return names;
}

void print_paragraph(std::string_view label, std::string_view text) {
  constexpr size_t kIndent = 11;
  fmt::print("  {:<9}{}\n", label, wrap(text, kIndent, kIndent));
}

void print_model(const x86::CpuModel &model, const std::vector<EngineFeatures> &engines) {
  fmt::print("{}\n", wrap(fmt::format("{}: {}", model.name, model.about), 0, 2));
  if (model.features.any()) print_paragraph("features", spaced_names(model.features));
  for (const auto &engine : engines) {
    const auto features = features_on(model, engine);
    if (!features)
      print_paragraph(engine.name, fmt::format("no: {}", features.error().message));
    else if (model.features.any())
      print_paragraph(engine.name, fmt::format("yes, with {}", spaced_names(*features & ~model.features)));
    else
      print_paragraph(engine.name, spaced_names(*features));
  }
}

json names(const x86::FeatureSet &set) {
  json out = json::array();
  for (const auto &row : x86::feature_table())
    if (x86::contains(set, row.feature)) out.push_back(row.name);
  return out;
}

json model_json(const x86::CpuModel &model, const std::vector<EngineFeatures> &engines) {
  json out = {
      {"name", model.name}, {"about", model.about}, {"features", names(model.features)}, {"engines", json::object()}};
  for (const auto &engine : engines) {
    const auto features = features_on(model, engine);
    if (features)
      out["engines"][engine.name] = {{"available", true}, {"features", names(*features)}};
    else
      out["engines"][engine.name] = {{"available", false}, {"error", features.error().message}};
  }
  return out;
}

void print_models(bool as_json) {
  const auto all = engines();
  if (as_json) {
    json out = json::array();
    for (const auto &model : x86::cpu_models()) out.push_back(model_json(model, all));
    fmt::print("{}\n", out.dump(2));
    return;
  }
  for (const auto &model : x86::cpu_models()) print_model(model, all);
  fmt::print("\n{}\n", wrap("Choose one with --cpu MODEL[,+feature,-feature]: max,-vmx hides VT-x.", 0, 0));
}

} // namespace

void add_cpu_models(CLI::App &app, int &status) {
  auto *verb = app.add_subcommand("cpu-models", "List the CPU models and what each has on this host");
  auto *as_json = verb->add_flag("--json")->description("Print JSON");
  verb->callback([&status, as_json] {
    print_models(as_json->count() > 0);
    status = 0;
  });
}

} // namespace abyme::cli
