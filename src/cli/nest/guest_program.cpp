#include "cli/nest/guest_program.hpp"

// GUEST_MEASURE_FILE: what CMake built from guest_measure.c.
__asm__(".section .rodata\n"
        ".globl abyme_guest_measure, abyme_guest_measure_end\n"
        "abyme_guest_measure:\n"
        ".incbin \"" GUEST_MEASURE_FILE "\"\n"
        "abyme_guest_measure_end:\n"
        ".byte 0\n" // the end has an address of its own
        ".text\n");

extern "C" const abyme::u8 abyme_guest_measure[], abyme_guest_measure_end[];

namespace abyme::cli::nest {

std::span<const u8> guest_measure_program() { return {abyme_guest_measure, abyme_guest_measure_end}; }

} // namespace abyme::cli::nest
