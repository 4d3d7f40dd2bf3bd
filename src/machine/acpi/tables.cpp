#include "machine/acpi/tables.hpp"
#include "machine/memory_map.hpp"
#include "machine/ports.hpp"
#include <algorithm>
#include <numeric>

namespace abyme::machine::acpi {
namespace {

constexpr u64 kRsdpSize = 36;
constexpr u64 kHeaderSize = 36;
constexpr u64 kFadtSize = 276; // revision 6
constexpr u64 kFacsSize = 64;

void fix_checksum(Bytes &table, u64 length, u64 at) {
  table[at] = 0;
  table[at] = static_cast<u8>(-std::accumulate(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(length), 0u));
}

// §5.2.5.3
Bytes make_rsdp(Gpa xsdt) {
  Bytes table;
  append_text(table, "RSD PTR ");
  table.push_back(0);
  append_text(table, "ABYME ");
  table.push_back(2);       // revision
  append_le(table, u32{0}); // no RSDT
  append_le(table, static_cast<u32>(kRsdpSize));
  append_le(table, xsdt.value);
  append_le(table, u32{0});
  fix_checksum(table, 20, 8);
  fix_checksum(table, kRsdpSize, 32);
  return table;
}

Bytes make_xsdt(std::initializer_list<Gpa> tables) {
  Bytes body;
  for (const Gpa table : tables) append_le(body, table.value);
  return make_table("XSDT", 1, body);
}

// §5.2.10
Bytes make_facs() {
  Bytes table;
  append_text(table, "FACS");
  append_le(table, static_cast<u32>(kFacsSize));
  table.resize(kFacsSize);
  table[32] = 2; // version
  return table;
}

struct GenericAddress { // §5.2.3.2, of an I/O port
  u16 port;
  u8 bits;
  u8 access; // 1 byte, 2 word, 3 dword
};

void put_address(Bytes &table, u64 at, const GenericAddress &address) {
  constexpr u8 kSystemIo = 1;
  table[at] = kSystemIo;
  table[at + 1] = address.bits;
  table[at + 3] = address.access;
  put_le(table, at + 4, u64{address.port});
}

// §5.2.9, table 5.9. Offsets are from the start of the table; fields that stay zero say that we have no such thing.
Bytes make_fadt(Gpa dsdt, Gpa facs) {
  constexpr u16 kLegacyDevices = 1 << 0, kNoVga = 1 << 2, kNoAspm = 1 << 4; // IAPC_BOOT_ARCH; no 8042 keyboard
  constexpr u32 kWbinvd = 1 << 0, kC1 = 1 << 2, kNoSleepButton = 1 << 5, kResetSupported = 1 << 10;
  constexpr u32 kNoRtcWake = 1 << 6, kNoPowerButton = 1 << 4;
  Bytes t(kFadtSize);
  put_le(t, 36, static_cast<u32>(facs.value));
  put_le(t, 40, static_cast<u32>(dsdt.value));
  put_le(t, 46, u16{kSciIrq}); // SMI_CMD stays 0: the machine is in ACPI mode from the start
  put_le(t, 56, u32{kPmEventPort});
  put_le(t, 64, u32{kPmControlPort});
  put_le(t, 76, u32{kPmTimerPort});
  t[88] = 4;               // PM1_EVT_LEN
  t[89] = 2;               // PM1_CNT_LEN
  t[91] = 4;               // PM_TMR_LEN
  put_le(t, 96, u16{101}); // P_LVL2_LAT and P_LVL3_LAT: above their limits, so no C2 and C3
  put_le(t, 98, u16{1001});
  t[108] = 0x32; // CENTURY, in CMOS
  put_le(t, 109, static_cast<u16>(kLegacyDevices | kNoVga | kNoAspm));
  put_le(t, 112, kWbinvd | kC1 | kNoPowerButton | kNoSleepButton | kNoRtcWake | kResetSupported);
  put_address(t, 116, {kResetPort, 8, 1});
  t[128] = kResetValue;
  put_le(t, 132, u64{0}); // X_FIRMWARE_CTRL: FIRMWARE_CTRL counts
  put_le(t, 140, dsdt.value);
  put_address(t, 148, {kPmEventPort, 32, 2});
  put_address(t, 172, {kPmControlPort, 16, 2});
  put_address(t, 208, {kPmTimerPort, 32, 3});
  Bytes table = make_table("FACP", 6, ByteView(t).subspan(kHeaderSize));
  return table;
}

// §5.2.12
Bytes make_madt(const Pc &pc) {
  constexpr u32 kHasPics = 1;
  constexpr u16 kLevelActiveHigh = 0xD;
  Bytes body;
  const auto add = [&body](std::initializer_list<u8> bytes) { body.insert(body.end(), bytes); };
  const auto add_override = [&](u8 irq, u32 gsi, u16 flags) {
    add({2, 10, 0, irq});
    append_le(body, gsi);
    append_le(body, flags);
  };
  append_le(body, static_cast<u32>(kLocalApic.value));
  append_le(body, kHasPics);
  for (unsigned i = 0; i < pc.cpus; i++) {
    add({0, 8, static_cast<u8>(i), static_cast<u8>(i)});
    append_le(body, u32{1}); // enabled
  }
  add({1, 12, 0, 0});
  append_le(body, static_cast<u32>(kIoApic.value));
  append_le(body, u32{0}); // its first GSI
  add_override(0, kTimerGsi, 0);
  add_override(kSciIrq, kSciIrq, kLevelActiveHigh);
  add({4, 6, 0xFF, 0, 0, 1}); // NMI on LINT1 of every processor
  return make_table("APIC", 5, body);
}

// PCI Firmware 3.2 §4.1.2
Bytes make_mcfg() {
  Bytes body;
  append_le(body, u64{0});
  append_le(body, kEcam.value);
  append_le(body, u16{0}); // segment
  body.push_back(0);       // first bus
  body.push_back(static_cast<u8>(kEcamSize / 1_MiB - 1));
  append_le(body, u32{0});
  return make_table("MCFG", 1, body);
}

} // namespace

Bytes make_table(std::string_view signature, u8 revision, ByteView body) {
  Bytes table;
  append_text(table, signature);
  append_le(table, static_cast<u32>(kHeaderSize + body.size()));
  table.push_back(revision);
  table.push_back(0);
  append_text(table, "ABYME ABYMEPC ");
  append_le(table, u32{1});
  append_text(table, "ABYM");
  append_le(table, u32{1});
  append(table, body);
  fix_checksum(table, table.size(), 9);
  return table;
}

Bytes make_tables(const Pc &pc, Gpa at) {
  Bytes all(kRsdpSize);
  const auto place = [&](const Bytes &table) {
    all.resize((all.size() + 63) & ~u64{63}); // the FACS wants 64, the others do not mind
    const Gpa where = at + all.size();
    append(all, table);
    return where;
  };
  const Gpa facs = place(make_facs());
  const Gpa dsdt = place(make_dsdt(pc));
  const Gpa fadt = place(make_fadt(dsdt, facs));
  const Gpa madt = place(make_madt(pc));
  const Gpa mcfg = place(make_mcfg());
  const Bytes rsdp = make_rsdp(place(make_xsdt({fadt, madt, mcfg})));
  std::ranges::copy(rsdp, all.begin());
  return all;
}

} // namespace abyme::machine::acpi
