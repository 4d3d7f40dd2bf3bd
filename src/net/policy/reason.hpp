#pragma once
#include "base/int.hpp"
#include <array>
#include <string_view>

namespace abyme::net {

// Why a frame was not delivered. The table in reason.cpp says each rule in words; docs/switch.md is checked against it.
enum class DropReason : u8 {
  None, // delivered
  // Where the frame enters.
  LinkDown,
  Runt,
  TooLong,
  BadOffload,
  BadSource,
  BadTag,
  TagNotAllowed,
  UntaggedNotAllowed,
  VlanNotAllowed,
  DoubleTag,
  ForgedTransmit,
  BpduFilter,
  BpduGuard,
  StormLimit,
  MacLimit,
  NoDestination,
  SamePort,
  LinkLoss,
  LinkQueue,
  // Where it would leave.
  VlanNotVisible,
  TagWouldHop,
  MacChangeRejected,
  Disconnected,
  QueueFull,
  BufferTooSmall,
  MtuExceeded,
  DeviceError,
  Count,
};

constexpr unsigned kReasonCount = static_cast<unsigned>(DropReason::Count);

struct ReasonRow {
  DropReason reason;
  std::string_view name;
  bool entering;            // counted at the port where the frame enters, otherwise at the port where it would leave
  std::string_view rule;    // when it strikes
  std::string_view setting; // what would let the frame pass; empty: nothing
};

[[nodiscard]] const std::array<ReasonRow, kReasonCount> &reason_table();
[[nodiscard]] const ReasonRow &row(DropReason reason);
[[nodiscard]] inline std::string_view name(DropReason reason) { return row(reason).name; }

} // namespace abyme::net
