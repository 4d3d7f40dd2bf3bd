// The configuration file as text: YAML in, YAML out.
#include "net/control/config.hpp"
#include <charconv>
#include <cmath>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

namespace abyme::net {
namespace {

constexpr int kMaxDepth = 16; // deeper than any configuration; anchors can nest without end

void convert(const YAML::Node &node, nlohmann::json &out, const std::string &path, ConfigTree &tree, int depth) {
  if (depth > kMaxDepth) throw YAML::Exception(node.Mark(), "nested too deeply");
  if (!path.empty() && node.Mark().line >= 0) tree.lines[path] = node.Mark().line + 1;
  switch (node.Type()) {
  case YAML::NodeType::Map:
    out = nlohmann::json::object();
    for (const auto &item : node) {
      const auto key = item.first.as<std::string>();
      if (out.contains(key)) throw YAML::Exception(item.first.Mark(), "'" + key + "' stands here twice");
      convert(item.second, out[key], path + "/" + key, tree, depth + 1);
      tree.lines[path + "/" + key] = item.first.Mark().line + 1;
    }
    break;
  case YAML::NodeType::Sequence:
    out = nlohmann::json::array();
    for (std::size_t i = 0; i < node.size(); i++) {
      out.push_back(nullptr);
      convert(node[i], out.back(), path + "/" + std::to_string(i), tree, depth + 1);
    }
    break;
  case YAML::NodeType::Scalar:
    if (node.Tag() == "!") // quoted
      out = node.Scalar();
    else
      out = parse_scalar(node.Scalar());
    break;
  default: out = nullptr;
  }
}

void emit(YAML::Emitter &out, const nlohmann::json &v) {
  if (v.is_object()) {
    out << YAML::BeginMap;
    for (const auto &item : v.items()) {
      out << YAML::Key << item.key() << YAML::Value;
      emit(out, item.value());
    }
    out << YAML::EndMap;
  } else if (v.is_array()) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const auto &item : v) emit(out, item);
    out << YAML::EndSeq;
  } else if (v.is_string()) {
    // What would read back as something else is quoted.
    const auto &text = v.get_ref<const std::string &>();
    if (parse_scalar(text).is_string())
      out << text;
    else
      out << YAML::DoubleQuoted << text;
  } else {
    out << v.dump();
  }
}

} // namespace

nlohmann::json parse_scalar(const std::string &text) {
  if (text == "true" || text == "false") return text == "true";
  if (text.empty() || text == "null" || text == "~") return nullptr;
  i64 whole = 0;
  double real = 0;
  const char *end = text.data() + text.size();
  if (const auto r = std::from_chars(text.data(), end, whole); r.ec == std::errc() && r.ptr == end) return whole;
  if (const auto r = std::from_chars(text.data(), end, real);
      r.ec == std::errc() && r.ptr == end && std::isfinite(real))
    return real;
  return text;
}

Result<ConfigTree> read_config_text(const std::string &text, const std::string &name) {
  ConfigTree tree;
  tree.file = name;
  try {
    convert(YAML::Load(text), tree.root, "", tree, 0);
  } catch (const YAML::Exception &e) {
    return fail("{}:{}: {}", name, e.mark.line + 1, e.msg);
  }
  if (tree.root.is_null()) tree.root = nlohmann::json::object();
  return tree;
}

Result<ConfigTree> read_config_file(const std::string &path) {
  std::ifstream in(path);
  if (!in) return fail_errno(fmt::format("cannot read '{}'", path));
  std::stringstream text;
  text << in.rdbuf();
  return read_config_text(text.str(), path);
}

Result<void> write_config_file(const std::string &path, const nlohmann::json &root) {
  YAML::Emitter out;
  emit(out, root);
  const std::string text = std::string(out.c_str()) + "\n", temporary = path + ".new";
  Fd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  const bool written =
      fd && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fsync(fd.get()) == 0;
  if (!written || rename(temporary.c_str(), path.c_str())) return fail_errno(fmt::format("cannot write '{}'", path));
  return {};
}

} // namespace abyme::net
