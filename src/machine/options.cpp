#include "machine/options.hpp"
#include "machine/memory_map.hpp"
#include <algorithm>
#include <array>
#include <charconv>

namespace abyme::machine {
namespace {

std::optional<u64> number(std::string_view text, int base) {
  u64 value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<u64> address(std::string_view text) {
  if (text.starts_with("0x")) text.remove_prefix(2);
  return number(text, 16);
}

// Cards on different sockets must differ, and a card be the same after a restart: so the path decides (FNV-1a).
MacAddress mac_of(std::string_view socket) {
  u64 hash = 0xCBF2'9CE4'8422'2325;
  for (const char c : socket) hash = (hash ^ static_cast<u8>(c)) * 0x100'0000'01B3;
  MacAddress mac{};
  for (size_t i = 0; i < mac.size(); i++) mac[i] = static_cast<u8>(hash >> 8 * i);
  mac[0] = 0x02; // of one station, administered locally
  return mac;
}

std::optional<MacAddress> parse_mac(std::string_view text) {
  MacAddress mac{};
  if (text.size() != mac.size() * 3 - 1) return std::nullopt;
  for (size_t i = 0; i < mac.size(); i++) {
    const auto byte = number(text.substr(i * 3, 2), 16);
    if (!byte || (i > 0 && text[i * 3 - 1] != ':')) return std::nullopt;
    mac[i] = static_cast<u8>(*byte);
  }
  const bool group = mac[0] & 1;
  return group || mac == MacAddress{} ? std::nullopt : std::optional(mac);
}

struct TraceName {
  std::string_view name;
  u32 kind;
};
constexpr std::array kTraceNames{
    TraceName{"exits", soft::kTraceExits},
    TraceName{"entries", soft::kTraceEntries},
    TraceName{"exceptions", soft::kTraceExceptions},
    TraceName{"interrupts", soft::kTraceInterrupts},
    TraceName{"blocks", soft::kTraceBlocks},
    TraceName{"instructions", soft::kTraceInstructions},
    TraceName{"msrs", soft::kTraceMsrs},
    TraceName{"io", soft::kTraceIo},
    TraceName{"registers", soft::kTraceRegisters},
};

std::string trace_names() {
  std::string names;
  for (const auto &row : kTraceNames) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

Result<void> set_level(soft::TraceOptions &options, std::string_view text) {
  const auto level = number(text, 10);
  if (!level || *level < 1 || *level > 2)
    return fail("--trace level={}: 1 (the guest itself) or 2 (what runs inside its VT-x) is right", text);
  options.level = static_cast<int>(*level);
  return {};
}

Result<void> set_range(soft::TraceOptions &options, std::string_view text) {
  const size_t dash = text.find('-');
  const auto first = address(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : address(text.substr(dash + 1));
  if (!first || !last || *first > *last)
    return fail("--trace rip={}: FIRST or FIRST-LAST in hexadecimal is right", text);
  options.first = *first;
  options.last = *last;
  return {};
}

Result<void> set_trace(soft::TraceOptions &options, std::string_view word) {
  const auto row = std::ranges::find(kTraceNames, word, &TraceName::name);
  if (row != kTraceNames.end()) {
    options.kinds |= row->kind;
    return {};
  }
  if (word.starts_with("level=")) return set_level(options, word.substr(6));
  if (word.starts_with("rip=")) return set_range(options, word.substr(4));
  if (word.starts_with("file=") && word.size() > 5) {
    options.path = word.substr(5);
    return {};
  }
  return fail("--trace {}: not known; {}, level=1|2, rip=FIRST-LAST and file=PATH are", word, trace_names());
}

} // namespace

Result<u64> parse_memory(std::string_view text) {
  static constexpr std::string_view kUnits = "KMG";
  const size_t unit = text.empty() ? std::string_view::npos : kUnits.find(text.back());
  const auto count = text.empty() ? std::nullopt : number(text.substr(0, text.size() - 1), 10);
  if (unit == std::string_view::npos || !count)
    return fail("--memory {}: a number with K, M or G is right, as in 512M", text);
  const unsigned shift = 10 * static_cast<unsigned>(unit + 1);
  if (*count > kMaxRam >> shift || *count << shift < kMinRam || (*count << shift) % kPageSize != 0)
    return fail("--memory {}: 16M to 64G in whole pages of 4K is right", text);
  return *count << shift;
}

Result<DiskConfig> parse_disk(std::string_view text) {
  DiskConfig disk{.path = std::string(text), .read_only = text.ends_with(",ro")};
  if (disk.read_only) disk.path.resize(disk.path.size() - 3);
  if (disk.path.empty()) return fail("--disk {}: FILE or FILE,ro is right", text);
  return disk;
}

Result<NetConfig> parse_net(std::string_view text) {
  constexpr std::string_view kPrefix = "vhost-user:";
  constexpr std::string_view kMac = ",mac=";
  const size_t comma = text.find(kMac);
  const auto head = text.substr(0, comma);
  if (!head.starts_with(kPrefix) || head.size() == kPrefix.size())
    return fail("--net {}: vhost-user:PATH is right, PATH being the UNIX socket of a vhost-user back end", text);
  const auto socket = head.substr(kPrefix.size());
  if (comma == std::string_view::npos) return NetConfig{std::string(socket), mac_of(socket)};
  const auto mac = parse_mac(text.substr(comma + kMac.size()));
  if (!mac) return fail("--net {}: a MAC address of one station is right, as in mac=02:00:00:00:00:01", text);
  return NetConfig{std::string(socket), *mac};
}

Result<Accel> parse_accel(std::string_view text) {
  if (text == "auto") return Accel::Auto;
  if (text == "kvm") return Accel::Kvm;
  if (text == "soft") return Accel::Soft;
  return fail("--accel {}: auto, kvm or soft is right", text);
}

Result<soft::TraceOptions> parse_trace(std::string_view text) {
  soft::TraceOptions options;
  for (size_t at = 0; at <= text.size();) {
    const size_t comma = std::min(text.find(',', at), text.size());
    if (auto set = set_trace(options, text.substr(at, comma - at)); !set) return std::unexpected(set.error());
    at = comma + 1;
  }
  if (options.kinds == 0)
    return fail("--trace {}: names nothing to trace; at least one of {} is right", text, trace_names());
  return options;
}

} // namespace abyme::machine
