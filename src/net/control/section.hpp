#pragma once
#include "net/control/config.hpp"
#include <set>

namespace abyme::net {

// A mapping of the configuration being read. The first thing wrong is kept, with its line; afterwards everything reads
// as absent.
class Section {
public:
  Section(const ConfigTree &tree, std::optional<Error> &error) : Section(tree, error, tree.root, "") {}

  [[nodiscard]] std::optional<bool> flag(const std::string &key);
  [[nodiscard]] std::optional<u64> number(const std::string &key, u64 lowest, u64 highest);
  [[nodiscard]] std::optional<double> fraction(const std::string &key);
  [[nodiscard]] std::optional<std::string> text(const std::string &key); // numbers too, as written
  [[nodiscard]] std::optional<Nanoseconds> duration(const std::string &key);
  // The value of the row that the text names.
  template <class T>
  [[nodiscard]] std::optional<T> choice(const std::string &key,
                                        std::initializer_list<std::pair<const char *, T>> rows) {
    const auto t = text(key);
    if (!t) return std::nullopt;
    std::string known;
    for (const auto &[name, value] : rows) {
      if (*t == name) return value;
      known += fmt::format("{}{}", known.empty() ? "" : ", ", name);
    }
    fail_at(key, fmt::format("is '{}'; expected one of: {}", *t, known));
    return std::nullopt;
  }
  [[nodiscard]] std::vector<std::string> list(const std::string &key); // a sequence, or one scalar, of scalars
  [[nodiscard]] Section section(const std::string &key);               // empty when absent
  [[nodiscard]] std::vector<std::string> keys() const;
  [[nodiscard]] const nlohmann::json *raw(const std::string &key);
  [[nodiscard]] bool has(const std::string &key) const { return value_->is_object() && value_->contains(key); }
  // To be called last: every key that nobody asked for is an error.
  void done();
  void fail_at(const std::string &key, const std::string &what);

private:
  Section(const ConfigTree &tree, std::optional<Error> &error, const nlohmann::json &value, std::string path);
  const ConfigTree *tree_;
  std::optional<Error> *error_;
  const nlohmann::json *value_;
  std::string path_;
  std::set<std::string> asked_;
};

} // namespace abyme::net
