#pragma once
#include <nlohmann/json.hpp>
#include <ostream>

// The control socket's reports as tables for people.
namespace abyme::net::tables {

void configuration(const nlohmann::json &report, std::ostream &out);
void ports(const nlohmann::json &report, std::ostream &out);
void fdb(const nlohmann::json &report, std::ostream &out);
void stats(const nlohmann::json &report, std::ostream &out);

} // namespace abyme::net::tables
