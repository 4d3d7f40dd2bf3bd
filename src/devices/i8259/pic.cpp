#include "devices/i8259/pic.hpp"

namespace abyme {
namespace {

constexpr u16 kMasterPort = 0x20, kSlavePort = 0xa0, kEdgeLevelPort = 0x4d0;
constexpr unsigned kCascade = 2;
constexpr unsigned kSpurious = 7; // the pin that an INTA without a request reports
// IRQs 0, 1, 2, 8 and 13 are always edge-triggered on a PC.
constexpr u8 kMasterLevelAllowed = 0xf8, kSlaveLevelAllowed = 0xde;

} // namespace

Pic::Pic(Bus &bus, InterruptSink &sink)
    : bus_(bus), sink_(sink), master_ports_(*this, &Pic::read_master, &Pic::write_master),
      slave_ports_(*this, &Pic::read_slave, &Pic::write_slave),
      edge_level_ports_(*this, &Pic::read_edge_level, &Pic::write_edge_level) {
  bus_.add_ports(kMasterPort, 2, master_ports_);
  bus_.add_ports(kSlavePort, 2, slave_ports_);
  bus_.add_ports(kEdgeLevelPort, 2, edge_level_ports_);
}

Pic::~Pic() {
  bus_.remove_ports(kMasterPort, master_ports_);
  bus_.remove_ports(kSlavePort, slave_ports_);
  bus_.remove_ports(kEdgeLevelPort, edge_level_ports_);
}

void Pic::set_irq(unsigned irq, bool level) {
  if (irq < 8)
    master_.set_line(irq, level);
  else
    slave_.set_line(irq - 8, level);
  update();
}

void Pic::update() {
  master_.set_cascade(kCascade, slave_.request().has_value());
  const bool output = master_.request().has_value();
  if (output_.exchange(output, std::memory_order_acq_rel) != output) sink_.external_interrupt_changed();
}

u8 Pic::acknowledge() {
  const auto guard = bus_.lock();
  const auto pin = master_.request();
  if (!pin) return master_.vector(kSpurious);
  master_.acknowledge(*pin);
  u8 vector = master_.vector(*pin);
  if (*pin == kCascade) {
    const auto behind = slave_.request();
    if (behind) slave_.acknowledge(*behind);
    vector = slave_.vector(behind.value_or(kSpurious));
  }
  update();
  return vector;
}

void Pic::reset() {
  master_.reset();
  slave_.reset();
  update();
}

void Pic::restore(const State &state) {
  master_.restore(state.master);
  slave_.restore(state.slave);
  update();
}

u8 Pic::read_master(u64 offset) {
  const u8 value = offset == 0 ? master_.read_command() : master_.read_data();
  update();
  return value;
}

void Pic::write_master(u64 offset, u8 value) {
  if (offset == 0)
    master_.write_command(value);
  else
    master_.write_data(value);
  update();
}

u8 Pic::read_slave(u64 offset) {
  const u8 value = offset == 0 ? slave_.read_command() : slave_.read_data();
  update();
  return value;
}

void Pic::write_slave(u64 offset, u8 value) {
  if (offset == 0)
    slave_.write_command(value);
  else
    slave_.write_data(value);
  update();
}

u8 Pic::read_edge_level(u64 offset) { return (offset == 0 ? master_ : slave_).level_triggered(); }

void Pic::write_edge_level(u64 offset, u8 value) {
  if (offset == 0)
    master_.set_level_triggered(value & kMasterLevelAllowed);
  else
    slave_.set_level_triggered(value & kSlaveLevelAllowed);
  update();
}

} // namespace abyme
