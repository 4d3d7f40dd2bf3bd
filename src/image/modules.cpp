#include "image/modules.hpp"
#include "image/file.hpp"
#include "image/program.hpp"
#include <algorithm>
#include <fstream>
#include <map>
#include <set>

namespace abyme::image {
namespace fs = std::filesystem;
namespace {

// Files say kvm-intel, the kernel kvm_intel.
std::string canonical(std::string name) {
  std::ranges::replace(name, '-', '_');
  return name;
}

// "kvm-intel.ko.xz": "kvm_intel"; empty for other files.
std::string module_name(const fs::path &path) {
  const auto file = path.filename().string();
  const size_t suffix = file.find(".ko");
  return suffix == file.npos ? std::string() : canonical(file.substr(0, suffix));
}

class ModuleTree {
public:
  explicit ModuleTree(const fs::path &folder) : folder_(folder) {
    std::error_code error;
    for (fs::recursive_directory_iterator it(folder / "kernel", error), end; !error && it != end; it.increment(error))
      if (auto name = module_name(it->path()); !name.empty()) files_.emplace(std::move(name), it->path());
    std::ifstream builtin(folder / "modules.builtin");
    for (std::string line; std::getline(builtin, line);) builtin_.insert(module_name(line));
  }

  Result<void> add(const std::string &wanted, std::vector<Module> &out) {
    const auto name = canonical(wanted);
    if (builtin_.contains(name) || !seen_.insert(name).second) return {};
    const auto file = files_.find(name);
    if (file == files_.end()) return fail("{}: has no module {}", folder_.string(), wanted);
    auto object = read_object(file->second);
    if (!object) return std::unexpected(object.error());
    for (const auto &needed : dependencies(*object))
      if (auto added = add(needed, out); !added) return added;
    out.push_back({name, std::move(*object)});
    return {};
  }

private:
  static Result<std::vector<u8>> read_object(const fs::path &path) {
    const auto kind = path.extension();
    if (kind == ".ko") return read_file(path);
    const std::string program = kind == ".zst" ? "zstd" : kind == ".gz" ? "gzip" : "xz";
    auto text = run_program({program, "-dc", path.string()});
    if (!text) return std::unexpected(text.error());
    return std::vector<u8>(text->begin(), text->end());
  }

  // The .modinfo section holds "depends=a,b" as a C string.
  static std::vector<std::string> dependencies(const std::vector<u8> &object) {
    const std::string_view text(reinterpret_cast<const char *>(object.data()), object.size());
    constexpr std::string_view kKey("\0depends=", 9);
    const size_t key = text.find(kKey);
    if (key == text.npos) return {};
    auto list = text.substr(key + kKey.size());
    list = list.substr(0, list.find('\0'));
    std::vector<std::string> names;
    while (!list.empty()) {
      const size_t comma = std::min(list.find(','), list.size());
      names.emplace_back(list.substr(0, comma));
      list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return names;
  }

  fs::path folder_;
  std::map<std::string, fs::path> files_;
  std::set<std::string> builtin_, seen_;
};

} // namespace

Result<std::vector<Module>> load_modules(const fs::path &folder, const std::vector<std::string> &names) {
  ModuleTree tree(folder);
  std::vector<Module> modules;
  for (const auto &name : names)
    if (auto added = tree.add(name, modules); !added) return std::unexpected(added.error());
  return modules;
}

} // namespace abyme::image
