#pragma once
#include "base/int.hpp"
#include <cstdio>
#include <string>

namespace abyme::soft {

enum TraceKind : u32 {
  kTraceExits = 1, kTraceEntries = 2, kTraceExceptions = 4, kTraceInterrupts = 8, kTraceBlocks = 16, kTraceInstructions = 32, kTraceMsrs = 64,
  kTraceIo = 128, kTraceRegisters = 256,
};

// What --trace asks for: kinds, one level or all, and a range of RIPs.
struct TraceOptions {
  u32 kinds = 0;
  int level = 0; // 0: all; 1: VMX root or none; 2: non-root
  u64 first = 0, last = ~0ull;
  std::string path; // empty: standard error
};

} // namespace abyme::soft
