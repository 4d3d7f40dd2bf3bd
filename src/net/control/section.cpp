#include "net/control/section.hpp"
#include <charconv>
#include <cmath>

namespace abyme::net {
namespace {

const nlohmann::json kNothing = nlohmann::json::object();

std::optional<Nanoseconds> parse_duration(const nlohmann::json &v) {
  if (v.is_number() && v.get<double>() >= 0 && v.get<double>() < 1e9)
    return static_cast<Nanoseconds>(v.get<double>() * 1e9);
  if (!v.is_string()) return std::nullopt;
  static constexpr std::pair<std::string_view, double> kUnits[] = {{"ns", 1},  {"us", 1e3}, {"ms", 1e6},
                                                                   {"s", 1e9}, {"m", 60e9}, {"h", 3600e9}};
  const auto &text = v.get_ref<const std::string &>();
  double n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || !(n >= 0) || n > 1e9) return std::nullopt;
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const auto &[name, factor] : kUnits)
    if (unit == name) return static_cast<Nanoseconds>(n * factor);
  return std::nullopt;
}

std::string escaped(std::string key) { // as JSON pointers do (RFC 6901 §3)
  std::string out;
  for (char c : key) out += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return out;
}

} // namespace

Section::Section(const ConfigTree &tree, std::optional<Error> &error, const nlohmann::json &value, std::string path)
    : tree_(&tree), error_(&error), value_(&value), path_(std::move(path)) {
  if (value_->is_object()) return;
  if (!value_->is_null() && !*error_) fail_at("", fmt::format("is {}; expected a mapping", value_->dump()));
  value_ = &kNothing;
}

void Section::fail_at(const std::string &key, const std::string &what) {
  if (*error_) return;
  const std::string full = key.empty() ? path_ : path_ + "/" + escaped(key);
  std::string where = full;
  while (!where.empty() && !tree_->lines.contains(where)) where.resize(where.rfind('/'));
  const auto line = tree_->lines.find(where);
  std::string dotted = full.empty() ? "the configuration" : full.substr(1);
  for (char &c : dotted)
    if (c == '/') c = '.';
  const std::string place = tree_->file.empty()          ? ""
                            : line == tree_->lines.end() ? tree_->file + ": "
                                                         : fmt::format("{}:{}: ", tree_->file, line->second);
  *error_ = Error{fmt::format("{}{} {}", place, dotted, what)};
}

const nlohmann::json *Section::raw(const std::string &key) {
  asked_.insert(key);
  if (*error_) return nullptr;
  const auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? nullptr : &*found;
}

std::optional<bool> Section::flag(const std::string &key) {
  const auto *v = raw(key);
  if (!v) return std::nullopt;
  if (v->is_boolean()) return v->get<bool>();
  fail_at(key, fmt::format("is {}; expected true or false", v->dump()));
  return std::nullopt;
}

std::optional<u64> Section::number(const std::string &key, u64 lowest, u64 highest) {
  const auto *v = raw(key);
  if (!v) return std::nullopt;
  if (v->is_number_integer() && v->get<i64>() >= 0 && v->get<u64>() >= lowest && v->get<u64>() <= highest)
    return v->get<u64>();
  fail_at(key, fmt::format("is {}; expected a number from {} to {}", v->dump(), lowest, highest));
  return std::nullopt;
}

std::optional<double> Section::fraction(const std::string &key) {
  const auto *v = raw(key);
  if (!v) return std::nullopt;
  double n = -1;
  if (v->is_number()) n = v->get<double>();
  if (v->is_string()) { // a percentage
    const auto &t = v->get_ref<const std::string &>();
    const auto [end, error] = std::from_chars(t.data(), t.data() + t.size(), n);
    n = error == std::errc() && std::string_view(end, static_cast<std::size_t>(t.data() + t.size() - end)) == "%"
            ? n / 100
            : -1;
  }
  if (n >= 0 && n <= 1) return n;
  fail_at(key, fmt::format("is {}; expected a part from 0 to 1 or a percentage", v->dump()));
  return std::nullopt;
}

std::optional<std::string> Section::text(const std::string &key) {
  const auto *v = raw(key);
  if (!v) return std::nullopt;
  if (v->is_string()) return v->get<std::string>();
  if (v->is_number() || v->is_boolean()) return v->dump();
  fail_at(key, fmt::format("is {}; expected text", v->dump()));
  return std::nullopt;
}

std::optional<Nanoseconds> Section::duration(const std::string &key) {
  const auto *v = raw(key);
  if (!v) return std::nullopt;
  if (const auto d = parse_duration(*v)) return d;
  fail_at(key, fmt::format("is {}; expected a time like 300s, 20ms or 5us", v->dump()));
  return std::nullopt;
}

std::vector<std::string> Section::list(const std::string &key) {
  const auto *v = raw(key);
  if (!v) return {};
  std::vector<std::string> out;
  const auto add = [&](const nlohmann::json &item) {
    if (item.is_structured()) return fail_at(key, fmt::format("has {}; expected numbers or text", item.dump()));
    out.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  };
  if (!v->is_array()) {
    add(*v);
    return out;
  }
  for (const auto &item : *v) add(item);
  return out;
}

Section Section::section(const std::string &key) {
  const auto *v = raw(key);
  return {*tree_, *error_, v ? *v : kNothing, path_ + "/" + escaped(key)};
}

std::vector<std::string> Section::keys() const {
  std::vector<std::string> out;
  for (const auto &item : value_->items()) out.push_back(item.key());
  return out;
}

void Section::done() {
  for (const auto &item : value_->items()) {
    if (asked_.contains(item.key())) continue;
    std::string known;
    for (const auto &k : asked_) known += fmt::format("{}{}", known.empty() ? "" : ", ", k);
    fail_at(item.key(), fmt::format("is unknown here; known are: {}", known));
  }
}

} // namespace abyme::net
