#include "net/control/tables.hpp"
#include <algorithm>
#include <string>
#include <vector>

namespace abyme::net::tables {
namespace {

using nlohmann::json;
using Row = std::vector<std::string>;

std::string word(const json &v) { return v.is_string() ? v.get<std::string>() : v.is_null() ? "any" : v.dump(); }
std::string at(const json &v, const char *key) { return v.contains(key) ? word(v[key]) : "-"; }

void print(const std::vector<Row> &rows, std::ostream &out) {
  std::vector<std::size_t> widths;
  for (const Row &r : rows)
    for (std::size_t i = 0; i < r.size(); i++) {
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], r[i].size());
    }
  for (const Row &r : rows) {
    std::string line;
    for (std::size_t i = 0; i < r.size(); i++) {
      line += r[i];
      if (i + 1 < r.size()) line.append(widths[i] - r[i].size() + 2, ' ');
    }
    out << line << "\n";
  }
}

// "reject" for all three is the default and reads best as one word.
std::string policy(const json &p) {
  std::string out;
  for (const char *key : {"promiscuous", "mac_changes", "forged_transmits"})
    if (p.value(key, "") == "accept") out += (out.empty() ? "" : ",") + std::string(key);
  return out.empty() ? "reject all" : "accept " + out;
}

} // namespace

void configuration(const json &r, std::ostream &out) {
  std::vector<Row> rows = {{"SWITCH", "MTU", "AGEING", "ADDRESSES", "SNOOPING", "POLICY"}};
  for (const auto &s : r["switches"].items())
    rows.push_back({s.key(), at(s.value(), "mtu"), at(s.value(), "ageing"),
                    at(s.value(), "addresses") + "/" + at(s.value(), "table"), at(s.value(), "snooping"),
                    policy(s.value()["policy"])});
  print(rows, out);
  out << "\n";
  rows = {{"PORT GROUP", "SWITCH", "VLAN", "POLICY"}};
  for (const auto &g : r["port_groups"].items())
    rows.push_back({g.key(), at(g.value(), "switch"), at(g.value(), "vlan"), policy(g.value()["policy"])});
  print(rows, out);
  if (r.value("saved", true)) return;
  out << "\nThe running configuration has changes that the file does not; 'abyme switch save' writes them.\n";
}

void ports(const json &r, std::ostream &out) {
  std::vector<Row> rows = {{"PORT", "SWITCH", "PORT GROUP", "KIND", "STATE", "VLAN", "MAC", "ADDRESSES", "POLICY"}};
  for (const auto &p : r.items()) {
    const json &v = p.value();
    std::string mac = at(v, "mac");
    if (v.contains("effective_mac") && v["effective_mac"] != v["mac"]) mac += " (now " + word(v["effective_mac"]) + ")";
    rows.push_back({p.key(), at(v, "switch"), at(v, "port_group"), at(v, "kind"), at(v, "state"), at(v, "vlan"), mac,
                    at(v, "addresses"), v.value("uplink", false) ? "uplink" : policy(v["policy"])});
  }
  print(rows, out);
}

void fdb(const json &r, std::ostream &out) {
  std::vector<Row> rows = {{"SWITCH", "VLAN", "MAC", "PORT", "KIND", "AGE"}};
  for (const json &e : r)
    rows.push_back({at(e, "switch"), at(e, "vlan"), at(e, "mac"), at(e, "port"), at(e, "kind"),
                    e.contains("age") ? at(e, "age") + "s" : "-"});
  print(rows, out);
}

void stats(const json &r, std::ostream &out) {
  std::vector<Row> rows = {{"PORT", "IN FRAMES", "IN BYTES", "OUT FRAMES", "OUT BYTES", "FLOODED", "DROPS"}};
  for (const auto &p : r.items()) {
    std::string drops;
    for (const auto &d : p.value()["drops"].items())
      drops += (drops.empty() ? "" : ", ") + d.key() + " " + d.value().dump();
    rows.push_back({p.key(), at(p.value(), "in_frames"), at(p.value(), "in_bytes"), at(p.value(), "out_frames"),
                    at(p.value(), "out_bytes"), at(p.value(), "flooded"), drops.empty() ? "none" : drops});
  }
  print(rows, out);
}

} // namespace abyme::net::tables
