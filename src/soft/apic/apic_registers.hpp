#pragma once
#include "base/int.hpp"

// The local APIC's registers as data (SDM 3A chapter 11).
namespace abyme::soft::apic {

// Offsets in the memory-mapped page; the x2APIC MSR is 0x800 + offset / 16 (SDM 3A table 11-6).
enum Register : u32 {
  kId = 0x020,
  kVersion = 0x030,
  kTpr = 0x080,
  kPpr = 0x0a0,
  kEoi = 0x0b0,
  kLdr = 0x0d0,
  kDfr = 0x0e0,
  kSvr = 0x0f0,
  kIsr = 0x100, // eight each
  kTmr = 0x180,
  kIrr = 0x200,
  kEsr = 0x280,
  kIcrLow = 0x300,
  kIcrHigh = 0x310,
  kLvtTimer = 0x320,
  kLvtThermal = 0x330,
  kLvtPerformance = 0x340,
  kLvtLint0 = 0x350,
  kLvtLint1 = 0x360,
  kLvtError = 0x370,
  kInitialCount = 0x380,
  kCurrentCount = 0x390,
  kDivide = 0x3e0,
  kSelfIpi = 0x3f0, // x2APIC only
};

constexpr u32 kMsrBase = 0x800;
constexpr u32 kMsrLast = 0x8ff;

// Version 14h, six LVT entries, EOI-broadcast suppression supported (§11.4.8).
constexpr u32 kVersionValue = 1u << 24 | 5u << 16 | 0x14;

// Rows of the local vector table, in the order of their registers.
enum Lvt : unsigned { kTimer, kThermal, kPerformance, kLint0, kLint1, kError, kLvts };

constexpr u32 kLvtVector = 0xff;
constexpr u32 kLvtDeliveryMode = 7u << 8;
constexpr u32 kLvtDeliveryStatus = 1u << 12;
constexpr u32 kLvtPolarity = 1u << 13;
constexpr u32 kLvtRemoteIrr = 1u << 14;
constexpr u32 kLvtLevel = 1u << 15;
constexpr u32 kLvtMasked = 1u << 16;
constexpr u32 kLvtTimerMode = 3u << 17;
// The bits that software can write in each row (figure 11-8).
constexpr u32 kLvtWritable[kLvts] = {
    kLvtVector | kLvtMasked | kLvtTimerMode,
    kLvtVector | kLvtMasked | kLvtDeliveryMode,
    kLvtVector | kLvtMasked | kLvtDeliveryMode,
    kLvtVector | kLvtMasked | kLvtDeliveryMode | kLvtPolarity | kLvtLevel,
    kLvtVector | kLvtMasked | kLvtDeliveryMode | kLvtPolarity | kLvtLevel,
    kLvtVector | kLvtMasked,
};

constexpr u32 kSvrEnable = 1u << 8;
constexpr u32 kSvrSuppressEoiBroadcast = 1u << 12;
constexpr u32 kSvrWritable = 0xff | kSvrEnable | kSvrSuppressEoiBroadcast;

constexpr u32 kDivideWritable = 0b1011;

// Error status (§11.5.3).
constexpr u32 kErrorSendIllegalVector = 1u << 5;
constexpr u32 kErrorReceivedIllegalVector = 1u << 6;
constexpr u32 kErrorIllegalRegister = 1u << 7;

constexpr u8 kFirstLegalVector = 16;

// Interrupt command register (§11.6.1); bits 18 and 19 are the shorthand.
constexpr u64 kIcrLogical = 1u << 11;
constexpr u64 kIcrDeliveryStatus = 1u << 12;
constexpr u64 kIcrAssert = 1u << 14;
constexpr u64 kIcrLevel = 1u << 15;
constexpr u64 kIcrReserved = 0xfff3'2000;

// IA32_APIC_BASE (§11.4.4, §11.12.1).
constexpr u64 kBaseBsp = 1u << 8;
constexpr u64 kBaseX2apic = 1u << 10;
constexpr u64 kBaseEnable = 1u << 11;
constexpr u64 kBaseReservedLow = 0x2ff;
constexpr u64 kDefaultBase = 0xfee0'0000;

enum class DeliveryMode : u8 {
  Fixed = 0,
  LowestPriority = 1,
  Smi = 2,
  Nmi = 4,
  Init = 5,
  StartUp = 6,
  ExtInt = 7,
};

enum class Shorthand : u8 { None = 0, Self = 1, AllIncludingSelf = 2, AllExcludingSelf = 3 };

// What travels on the APIC bus.
struct Message {
  DeliveryMode mode = DeliveryMode::Fixed;
  u8 vector = 0;
  bool level = false;   // level-triggered
  bool logical = false; // destination mode
  u32 destination = 0;
  u32 broadcast = 0xff; // the destination that means everyone: all ones in the sender's width
  bool lowest = false;  // one destination, the one with the lowest priority
};

} // namespace abyme::soft::apic
