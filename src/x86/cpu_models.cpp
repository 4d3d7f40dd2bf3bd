#include "x86/cpu_models.hpp"
#include "x86/cpuid_leaves.hpp"
#include <algorithm>

namespace abyme::x86 {
namespace {

using enum Feature;
constexpr u8 kData = 1, kInstruction = 2, kUnified = 3;

const FeatureSet kNehalem =
    make_set({fpu,  vme,    de,     pse,    tsc,     msr,     pae, mce,     cx8,    apic, sep,  mtrr,
              pge,  mca,    cmov,   pat,    pse36,   clflush, mmx, fxsr,    sse,    sse2, sse3, ssse3,
              cx16, sse4_1, sse4_2, popcnt, syscall, nx,      lm,  lahf_lm, rdtscp, vmx});

const FeatureSet kHaswell = kNehalem | make_set({pclmulqdq, fma,     pcid, x2apic, movbe,  tsc_deadline_timer,
                                                 aes,       xsave,   avx,  f16c,   rdrand, fsgsbase,
                                                 bmi1,      avx2,    smep, bmi2,   erms,   invpcid,
                                                 xsaveopt,  pdpe1gb, abm});

// What a processor of any age has by way of microcode, and what says who runs it.
const FeatureSet kWhereAvailable =
    make_set({hypervisor, tsc_adjust, arat, constant_tsc, md_clear, arch_capabilities, spec_ctrl, ss});

const VmxFeatureSet kNehalemVmx = [] {
  using enum VmxFeature;
  return make_set({ept, vpid, unrestricted_guest, preemption_timer, tpr_shadow, virtualize_apic_accesses,
                   virtualize_x2apic, msr_bitmaps, io_bitmaps, monitor_trap, descriptor_table, wbinvd_exiting,
                   pause_loop, rdtscp});
}();

const VmxFeatureSet kHaswellVmx = kNehalemVmx | [] {
  using enum VmxFeature;
  return make_set({vmcs_shadowing, ept_accessed_dirty, ept_1gb, ept_execute_only, invpcid_exiting, vmfunc,
                   rdrand_exiting, apic_register_virtualization, virtual_interrupt_delivery, posted_interrupts});
}();

const CpuModel kModels[] = {
    {.name = "nehalem",
     .about = "Intel Core i7 of 2008, with VT-x, EPT, VPID and unrestricted guest",
     .family = 6,
     .stepping = 3,
     .model = 0x1A,
     .features = kNehalem,
     .where_available = kWhereAvailable | make_set({x2apic, tsc_deadline_timer}),
     .vmx_features = kNehalemVmx,
     .caches = {{1, kData, 8, 64, false},
                {1, kInstruction, 4, 128, false},
                {2, kUnified, 8, 512, false},
                {3, kUnified, 16, 8192, true}}},
    {.name = "haswell",
     .about = "Intel Core of 2013: adds AVX2, BMI, FMA, INVPCID, VMCS shadowing",
     .family = 6,
     .stepping = 3,
     .model = 0x3C,
     .features = kHaswell,
     .where_available = kWhereAvailable,
     .vmx_features = kHaswellVmx,
     .caches = {{1, kData, 8, 64, false},
                {1, kInstruction, 8, 64, false},
                {2, kUnified, 8, 512, false},
                {3, kUnified, 16, 8192, true}}},
    {.name = "max",
     .about = "everything that the engine offers here (the default)",
     .family = 6,
     .stepping = 8,
     .model = 0x8F,
     .features = {},
     .where_available = ~FeatureSet{},
     .vmx_features = ~VmxFeatureSet{},
     .caches = {{1, kData, 12, 64, false},
                {1, kInstruction, 8, 64, false},
                {2, kUnified, 8, 2048, false},
                {3, kUnified, 16, 16384, true}}},
};

// What the user changed, in order.
struct Change {
  Feature feature;
  bool on;
};
struct Request {
  const CpuModel *model;
  std::vector<Change> changes;
};

std::string join(std::span<const std::string_view> names, std::string_view last_separator) {
  std::string out;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += i + 1 == names.size() ? last_separator : ", ";
    out += fmt::format("'{}'", names[i]);
  }
  return out;
}

Result<const CpuModel *> find_model(std::string_view name) {
  if (name.empty()) name = "max";
  std::vector<std::string_view> known;
  for (const auto &m : kModels) {
    if (m.name == name) return &m;
    known.push_back(m.name);
  }
  return fail("CPU model '{}' is not known; the models are {}", name, join(known, " and "));
}

Result<Change> parse_change(std::string_view text) {
  if (text.empty() || (text[0] != '+' && text[0] != '-'))
    return fail("CPU feature '{}' must begin with + (add it) or - (take it away), as in max,-vmx", text);
  const auto name = text.substr(1);
  if (const auto feature = find_feature(name)) return Change{*feature, text[0] == '+'};
  const auto similar = similar_features(name);
  if (similar.empty()) return fail("CPU feature '{}' is not known; `abyme cpu-models` lists them", name);
  return fail("CPU feature '{}' is not known; did you mean {}?", name, join(similar, " or "));
}

Result<Request> parse(std::string_view spec) {
  const auto comma = spec.find(',');
  const auto model = find_model(spec.substr(0, comma));
  if (!model) return std::unexpected(model.error());
  Request request{*model, {}};
  for (size_t at = comma; at != spec.npos;) {
    const size_t next = spec.find(',', at + 1);
    const auto change = parse_change(spec.substr(at + 1, next == spec.npos ? next : next - at - 1));
    if (!change) return std::unexpected(change.error());
    request.changes.push_back(*change);
    at = next;
  }
  return request;
}

// How to take the features away; for more than a few, another model is the better advice.
std::string removal(const CpuModel &model, const FeatureSet &features) {
  constexpr size_t kFew = 4;
  if (features.count() > kFew) return "use max, which takes what there is";
  std::string spec(model.name);
  for (const auto &row : feature_table())
    if (contains(features, row.feature)) spec += fmt::format(",-{}", row.name);
  return fmt::format("use {}, or max, which takes what there is", spec);
}

std::unexpected<Error> refuse(const Request &request, const FeatureSet &impossible, const HostFeatures &available) {
  const FeatureSet of_model = impossible & request.model->features, added = impossible & ~request.model->features;
  if (added.any())
    return fail("CPU features {} were asked for, and {} does not offer them; leave them out", join_names(added),
                available.source);
  return fail("CPU model '{}' has {}, which {} does not offer; {}", request.model->name, join_names(of_model),
              available.source, removal(*request.model, of_model));
}

// What the user took away, and what makes no sense without it.
void take_away(FeatureSet &set, Feature feature) {
  put(set, feature, false);
  set &= ~without_prerequisite(set);
}

Result<FeatureSet> choose_features(const Request &request, const HostFeatures &available) {
  FeatureSet set = request.model->features | (request.model->where_available & available.features);
  FeatureSet asked;
  for (const auto &[feature, on] : request.changes) {
    put(asked, feature, on);
    if (on)
      put(set, feature);
    else
      take_away(set, feature);
  }
  const FeatureSet impossible = set & ~available.features;
  if (impossible.any()) return refuse(request, impossible, available);
  for (const auto &row : feature_table()) {
    if (!contains(asked, row.feature) || !contains(set, row.feature)) continue;
    const auto missing = missing_prerequisites(row.feature, set);
    if (!missing.empty())
      return fail("CPU feature '{}' needs '{}', which '{}' does not have; add +{}", row.name, describe(missing[0]).name,
                  request.model->name, describe(missing[0]).name);
  }
  return set & ~without_prerequisite(set);
}

} // namespace

std::span<const CpuModel> cpu_models() { return kModels; }

Result<CpuProfile> make_profile(std::string_view spec, const HostFeatures &available, unsigned cpus) {
  const auto request = parse(spec);
  if (!request) return std::unexpected(request.error());
  auto features = choose_features(*request, available);
  if (!features) return std::unexpected(features.error());
  put(*features, ht, cpus > 1);

  CpuProfile profile;
  profile.model = request->model->name;
  profile.features = *features;
  if (contains(*features, vmx)) profile.vmx_features = request->model->vmx_features & available.vmx_features;
  profile.physical_bits = available.physical_bits;
  profile.tsc_hz = available.tsc_hz;
  build_leaves(profile, *request->model, available, cpus);
  return profile;
}

} // namespace abyme::x86
