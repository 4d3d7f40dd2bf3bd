#pragma once
#include "soft/vmx/exit.hpp"

// The guest-state area: saved by VM exits, loaded by VM entries.
namespace abyme::soft::vmx {

void save_guest_state(Cpu &cpu, SavedRf rf);
void load_guest_state(Cpu &cpu);

// Bits of CR0 that neither VM entry nor VM exit changes (SDM 3C §27.3.2.1, §28.5.1).
constexpr u64 kCr0Kept =
    0xFFFF'FFFF'0000'0000 | x86::cr0::CD | x86::cr0::NW | x86::cr0::ET | 0x1FF8'0000 | 1 << 17 | 0xFFC0;

} // namespace abyme::soft::vmx
