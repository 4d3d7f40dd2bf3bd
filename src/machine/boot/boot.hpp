#pragma once
#include "base/result.hpp"
#include "machine/bytes.hpp"
#include "memory/guest_memory.hpp"
#include "x86/state.hpp"
#include <optional>
#include <string>
#include <string_view>

// How a kernel gets into guest memory and what state vCPU 0 enters it with. There is no firmware: the loader does what
// the boot protocol of the kernel's file format asks of one. Files are hostile; every address and size in them is
// checked before it is used.
namespace abyme::machine::boot {

struct BootFiles {
  std::string kernel_name; // as the user wrote it: for messages, and the first word of a multiboot command line
  ByteView kernel;
  std::string initrd_name;
  std::optional<ByteView> initrd;
  std::string command_line;
  Gpa rsdp; // where the ACPI tables begin
};

enum class Protocol { LinuxBzImage, Pvh, Multiboot };
[[nodiscard]] std::string_view name(Protocol protocol);

// Chooses by content, never by name.
[[nodiscard]] Result<Protocol> recognize(const BootFiles &files);

// Places kernel, initrd and what the protocol hands over in `memory`, which is zeroed but for the firmware tables.
[[nodiscard]] Result<x86::CpuState> load(const BootFiles &files, GuestMemory &memory);

// One a protocol. `load` calls the right one.
[[nodiscard]] Result<x86::CpuState> load_bzimage(const BootFiles &files, GuestMemory &memory);
[[nodiscard]] Result<x86::CpuState> load_pvh(const BootFiles &files, GuestMemory &memory);
[[nodiscard]] Result<x86::CpuState> load_multiboot(const BootFiles &files, GuestMemory &memory);

} // namespace abyme::machine::boot
