#include "machine/boot/boot.hpp"
#include "machine/memory_map.hpp"
#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace abyme::machine::boot {
namespace {

using testing::HasSubstr;

constexpr u64 kRam = 64_MiB;

// Files made by hand, one field after the other wrong.
class Boot : public testing::Test {
protected:
  [[nodiscard]] BootFiles files(const Bytes &kernel) const {
    return {.kernel_name = "kernel.bin",
            .kernel = kernel,
            .initrd_name = "initrd.img",
            .initrd = initrd,
            .command_line = command_line,
            .rsdp = kTablesStart};
  }
  [[nodiscard]] Result<x86::CpuState> boot(const Bytes &kernel) {
    memory = GuestMemory::create(ram).value();
    return load(files(kernel), *memory);
  }
  [[nodiscard]] std::string error(const Bytes &kernel) {
    const auto state = boot(kernel);
    return state ? "(it loads)" : state.error().message;
  }
  template <class T> [[nodiscard]] T at(u64 address) const {
    T value{};
    EXPECT_TRUE(memory->load(Gpa(address), value)) << std::hex << address;
    return value;
  }
  [[nodiscard]] std::string text_at(u64 address) const {
    std::string text;
    for (char c; (c = static_cast<char>(at<u8>(address + text.size()))) != 0;) text.push_back(c);
    return text;
  }
  u64 ram = kRam;
  std::optional<ByteView> initrd;
  std::string command_line = "console=ttyS0";
  std::unique_ptr<GuestMemory> memory;
};

// ---- bzImage

Bytes bzimage() {
  Bytes file(1024 + 4096, 0x90);
  std::fill(file.begin(), file.begin() + 0x400, 0);
  file[0x1F1] = 1; // setup_sects
  put_le(file, 0x1F4, u32{4096 / 16});
  put_le(file, 0x1FE, u16{0xAA55});
  file[0x201] = 0x66;
  std::copy_n("HdrS", 4, file.begin() + 0x202);
  put_le(file, 0x206, u16{0x20F});
  file[0x211] = 1;
  put_le(file, 0x22C, u32{0x7FFF'FFFF});
  put_le(file, 0x230, u32{0x20'0000});
  file[0x234] = 1;
  put_le(file, 0x236, u16{3});
  put_le(file, 0x238, u32{2047});
  put_le(file, 0x258, u64{0x100'0000});
  put_le(file, 0x260, u32{0x80'0000});
  return file;
}

TEST_F(Boot, BzImageIsEnteredInLongModeAtItsOffset) {
  const auto state = boot(bzimage());
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(state->rip, 0x100'0200u);
  EXPECT_EQ(at<u8>(0x100'0000), 0x90);
  EXPECT_EQ(at<u8>(0x100'0FFF), 0x90);
  EXPECT_TRUE(state->efer & x86::efer::LMA);
  EXPECT_EQ(state->segments[x86::CS].selector, 0x10);
  EXPECT_TRUE(state->segments[x86::CS].is_long());
  EXPECT_EQ(state->rflags & x86::rflags::IF, 0u);
}

TEST_F(Boot, BzImagePageTablesMapTheLowestFourGigabytesToThemselves) {
  const auto state = boot(bzimage());
  ASSERT_TRUE(state);
  for (const u64 address : {u64{0}, u64{0x100'0200}, u64{0xFFE0'0000}}) {
    u64 table = state->cr3;
    for (const unsigned shift : {39u, 30u}) {
      const u64 entry = at<u64>(table + (address >> shift & 511) * 8);
      ASSERT_EQ(entry & 3, 3u);
      table = entry & ~u64{0xFFF};
    }
    EXPECT_EQ(at<u64>(table + (address >> 21 & 511) * 8), (address & ~u64{0x1F'FFFF}) | 0x83);
  }
}

TEST_F(Boot, BzImageGetsZeroPageCommandLineAndInitrd) {
  const Bytes content(5000, 0xAB);
  initrd = content;
  const auto state = boot(bzimage());
  ASSERT_TRUE(state);
  const u64 params = state->gpr[x86::RSI];
  EXPECT_EQ(at<u32>(params + 0x202), 0x53726448u);
  EXPECT_EQ(at<u8>(params + 0x1EF), 0); // sentinel
  EXPECT_EQ(at<u8>(params + 0x210), 0xFF);
  EXPECT_EQ(at<u64>(params + 0x70), kTablesStart.value);
  EXPECT_EQ(text_at(at<u32>(params + 0x228)), "console=ttyS0");
  const u64 initrd_at = at<u32>(params + 0x218);
  EXPECT_EQ(at<u32>(params + 0x21C), content.size());
  EXPECT_EQ(at<u8>(initrd_at), 0xAB);
  EXPECT_EQ(at<u8>(initrd_at + content.size() - 1), 0xAB);
  const auto map = memory_map(*memory);
  ASSERT_EQ(at<u8>(params + 0x1E8), map.size());
  for (size_t i = 0; i < map.size(); i++) EXPECT_EQ(at<u64>(params + 0x2D0 + i * 20), map[i].start.value);
}

TEST_F(Boot, BzImageMovesWhereItsPreferredPlaceIsNotRam) {
  auto file = bzimage();
  put_le(file, 0x258, ~u64{0} - 100);
  const auto state = boot(file);
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(state->rip, 0x20'0200u);
  file[0x234] = 0; // not relocatable
  EXPECT_THAT(error(file), HasSubstr("end of the address space"));
}

TEST_F(Boot, BzImageRefusals) {
  auto file = bzimage();
  put_le(file, 0x206, u16{0x20B});
  EXPECT_THAT(error(file), HasSubstr("2.12"));
  file = bzimage();
  put_le(file, 0x236, u16{0});
  EXPECT_THAT(error(file), HasSubstr("64-bit entry"));
  file = bzimage();
  file[0x211] = 0;
  EXPECT_THAT(error(file), HasSubstr("bzImage"));
  file = bzimage();
  put_le(file, 0x260, u32{0xFFFF'FFFF});
  EXPECT_THAT(error(file), HasSubstr("--memory"));
  for (const u32 alignment : {0u, 3u, 0x800u, 0xFFFF'FFFFu}) {
    file = bzimage();
    put_le(file, 0x230, alignment);
    EXPECT_THAT(error(file), HasSubstr("kernel_alignment"));
  }
  command_line.assign(2048, 'x');
  EXPECT_THAT(error(bzimage()), HasSubstr("at most 2047"));
  auto long_line = bzimage();
  put_le(long_line, 0x238, u32{0xFFFF'FFFF});
  command_line.assign(1_MiB, 'x');
  EXPECT_THAT(error(long_line), HasSubstr("no room"));
}

TEST_F(Boot, BzImageWithMoreSetupThanFileIsRefused) {
  auto file = bzimage();
  file[0x1F1] = 255;
  EXPECT_THAT(error(file), HasSubstr("truncated"));
}

TEST_F(Boot, BzImageCutOffAnywhereIsRefused) {
  const auto whole = bzimage();
  for (size_t size = 0; size + 16 < whole.size(); size += 13)
    EXPECT_THAT(error(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))),
                testing::Not(HasSubstr("(it loads)")))
        << size;
}

TEST_F(Boot, AnInitrdThatDoesNotFitIsRefused) {
  const Bytes content(60_MiB);
  initrd = content;
  EXPECT_THAT(error(bzimage()), HasSubstr("initrd.img: no room"));
}

// ---- ELF

struct ElfParts {
  Elf64_Ehdr header{};
  std::vector<Elf64_Phdr> programs;
  Bytes note;
};

ElfParts pvh_parts() {
  ElfParts parts;
  std::copy_n(ELFMAG, SELFMAG, parts.header.e_ident);
  parts.header.e_ident[EI_CLASS] = ELFCLASS64;
  parts.header.e_ident[EI_DATA] = ELFDATA2LSB;
  parts.header.e_type = ET_EXEC;
  parts.header.e_machine = EM_X86_64;
  parts.header.e_phoff = sizeof(Elf64_Ehdr);
  parts.header.e_phentsize = sizeof(Elf64_Phdr);
  for (const u32 value : {4u, 8u, 18u}) append_le(parts.note, value);
  append_text(parts.note, std::string_view("Xen\0", 4));
  append_le(parts.note, u64{0x20'0010});
  parts.programs.push_back({.p_type = PT_LOAD,
                            .p_flags = 7,
                            .p_offset = 0x1000,
                            .p_vaddr = 0xFFFF'FFFF'8020'0000,
                            .p_paddr = 0x20'0000,
                            .p_filesz = 0x100,
                            .p_memsz = 0x3000,
                            .p_align = 0x1000});
  parts.programs.push_back({.p_type = PT_NOTE,
                            .p_flags = 4,
                            .p_offset = 0x800,
                            .p_vaddr = 0,
                            .p_paddr = 0,
                            .p_filesz = parts.note.size(),
                            .p_memsz = parts.note.size(),
                            .p_align = 4});
  return parts;
}

Bytes elf(ElfParts parts) {
  parts.header.e_phnum = static_cast<u16>(parts.programs.size());
  Bytes file(0x1100, 0xCC);
  std::memcpy(file.data(), &parts.header, sizeof parts.header);
  const auto *programs = reinterpret_cast<const u8 *>(parts.programs.data());
  std::copy_n(programs, parts.programs.size() * sizeof(Elf64_Phdr), file.begin() + sizeof parts.header);
  std::copy(parts.note.begin(), parts.note.end(), file.begin() + 0x800);
  return file;
}

TEST_F(Boot, PvhIsEnteredInProtectedModeWithItsStartInfo) {
  const Bytes content(100, 0xAB);
  initrd = content;
  const auto state = boot(elf(pvh_parts()));
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(state->rip, 0x20'0010u);
  EXPECT_EQ(state->cr0 & (x86::cr0::PE | x86::cr0::PG), x86::cr0::PE);
  EXPECT_EQ(at<u8>(0x20'00FF), 0xCC);
  EXPECT_EQ(at<u8>(0x20'0100), 0);
  const u64 info = state->gpr[x86::RBX];
  EXPECT_EQ(at<u32>(info), 0x336EC578u);
  EXPECT_EQ(at<u32>(info + 12), 1u);
  const u64 module = at<u64>(info + 16);
  EXPECT_EQ(at<u8>(at<u64>(module)), 0xAB);
  EXPECT_EQ(at<u64>(module + 8), content.size());
  EXPECT_EQ(text_at(at<u64>(info + 24)), "console=ttyS0");
  EXPECT_EQ(at<u64>(info + 32), kTablesStart.value);
  EXPECT_EQ(at<u32>(info + 48), memory_map(*memory).size());
  EXPECT_EQ(at<u64>(at<u64>(info + 40) + 8), kBaseMemoryEnd.value);
}

TEST_F(Boot, ElfSegmentsThatLieAreRefused) {
  const auto with = [&](auto change) {
    auto parts = pvh_parts();
    change(parts);
    return error(elf(parts));
  };
  EXPECT_THAT(with([](auto &p) { p.programs[0].p_offset = ~u64{0} - 0x80; }), HasSubstr("truncated"));
  EXPECT_THAT(with([](auto &p) { p.programs[0].p_filesz = 0x101; }), HasSubstr("truncated"));
  EXPECT_THAT(with([](auto &p) { p.programs[0].p_memsz = 0x80; }), HasSubstr("only 0x80 in memory"));
  EXPECT_THAT(with([](auto &p) { p.programs[0].p_memsz = ~u64{0}; }), HasSubstr("end of the address space"));
  EXPECT_THAT(with([](auto &p) { p.programs[0].p_paddr = kRam; }), HasSubstr("64 MiB"));
  EXPECT_THAT(with([](auto &p) { p.programs[0].p_paddr = 0x9F000; }), HasSubstr("not all RAM"));
  EXPECT_THAT(with([](auto &p) { p.programs[0].p_paddr = kTablesStart.value; }), HasSubstr("not all RAM"));
  EXPECT_THAT(with([](auto &p) { p.programs.push_back(p.programs[0]); }), HasSubstr("overlaps kernel.bin: segment 0"));
  EXPECT_THAT(with([](auto &p) { p.programs.erase(p.programs.begin()); }), HasSubstr("nothing to load"));
  EXPECT_THAT(with([](auto &p) { p.programs.erase(p.programs.begin() + 1); }), HasSubstr("PVH entry note"));
  EXPECT_THAT(with([](auto &p) { p.programs.clear(); }), HasSubstr("program headers"));
  EXPECT_THAT(with([](auto &p) { p.header.e_phoff = ~u64{0} - 8; }), HasSubstr("beyond the end"));
  EXPECT_THAT(with([](auto &p) { p.header.e_phentsize = 1; }), HasSubstr("program headers"));
  EXPECT_THAT(with([](auto &p) { p.header.e_machine = EM_AARCH64; }), HasSubstr("not x86"));
  EXPECT_THAT(with([](auto &p) { p.header.e_type = ET_REL; }), HasSubstr("not an executable"));
  EXPECT_THAT(with([](auto &p) { p.header.e_ident[EI_CLASS] = 7; }), HasSubstr("class 7"));
  EXPECT_THAT(with([](auto &p) { p.header.e_ident[EI_DATA] = ELFDATA2MSB; }), HasSubstr("little-endian"));
}

TEST_F(Boot, PvhNotesThatLieAreNoEntry) {
  const auto with = [&](auto change) {
    auto parts = pvh_parts();
    change(parts.note);
    return error(elf(parts));
  };
  EXPECT_THAT(with([](Bytes &n) { put_le(n, 0, u32{0xFFFF'FFFF}); }), HasSubstr("PVH entry note"));
  EXPECT_THAT(with([](Bytes &n) { put_le(n, 4, u32{0xFFFF'FFFF}); }), HasSubstr("PVH entry note"));
  EXPECT_THAT(with([](Bytes &n) { put_le(n, 4, u32{2}); }), HasSubstr("PVH entry note"));
  EXPECT_THAT(with([](Bytes &n) { n[12] = 'Y'; }), HasSubstr("PVH entry note"));
  EXPECT_THAT(with([](Bytes &n) { put_le(n, 16, u64{0xFFFF'FFFF'0000'0000}); }), HasSubstr("not in RAM"));
}

// ---- multiboot

Bytes raw_multiboot(u32 flags = 1 << 16) {
  Bytes file(0x200, 0x90);
  const u64 at = 0x40;
  put_le(file, at, u32{0x1BADB002});
  put_le(file, at + 4, flags);
  put_le(file, at + 8, static_cast<u32>(-(0x1BADB002u + flags)));
  const u32 fields[] = {0x10'0040, 0x10'0000, 0x10'0200, 0x10'1000,
                        0x10'0080}; // header, load, load_end, bss_end, entry
  for (unsigned i = 0; i < 5; i++) put_le(file, at + 12 + i * 4, fields[i]);
  return file;
}

TEST_F(Boot, MultibootByAddressFields) {
  const Bytes content(100, 0xAB);
  initrd = content;
  const auto state = boot(raw_multiboot());
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_EQ(state->rip, 0x10'0080u);
  EXPECT_EQ(state->gpr[x86::RAX], 0x2BADB002u);
  const u64 info = state->gpr[x86::RBX];
  EXPECT_EQ(at<u32>(info), 0x24Du);
  EXPECT_EQ(at<u32>(info + 8), (kRam - 1_MiB) / 1024);
  EXPECT_EQ(text_at(at<u32>(info + 16)), "kernel.bin console=ttyS0");
  EXPECT_EQ(at<u32>(info + 20), 1u);
  const u64 module = at<u32>(info + 24);
  EXPECT_EQ(at<u32>(module), 0x10'1000u); // right behind the kernel
  EXPECT_EQ(at<u32>(module + 4) - at<u32>(module), content.size());
  EXPECT_EQ(at<u8>(at<u32>(module)), 0xAB);
  EXPECT_EQ(text_at(at<u32>(module + 8)), "initrd.img");
  EXPECT_EQ(at<u32>(info + 44), memory_map(*memory).size() * 24);
  EXPECT_EQ(at<u32>(at<u32>(info + 48)), 20u);
}

TEST_F(Boot, MultibootAddressFieldsThatLieAreRefused) {
  const auto with = [&](unsigned field, u32 value) {
    auto file = raw_multiboot();
    put_le(file, 0x40 + 12 + field * 4, value);
    return error(file);
  };
  EXPECT_THAT(with(0, 0xF'0000), HasSubstr("load address"));
  EXPECT_THAT(with(0, 0x10'0041), HasSubstr("load address"));
  EXPECT_THAT(with(2, 0x0F'0000), HasSubstr("load_end_addr"));
  EXPECT_THAT(with(2, 0x10'0201), HasSubstr("truncated"));
  EXPECT_THAT(with(3, 0x10'0100), HasSubstr("bss_end_addr"));
  EXPECT_THAT(with(3, 0xFFFF'FFFF), HasSubstr("not all RAM"));
  EXPECT_THAT(with(4, 0xD000'0000), HasSubstr("entry point"));
  EXPECT_THAT(error(raw_multiboot(1 << 16 | 1 << 5)), HasSubstr("0x20"));
}

TEST_F(Boot, MultibootTakesOnly32BitElf) {
  auto parts = pvh_parts();
  auto file = elf(parts);
  const auto header = raw_multiboot(0);
  std::copy_n(header.begin() + 0x40, 12, file.begin() + 0x900);
  EXPECT_THAT(error(file), HasSubstr("objcopy"));
}

TEST_F(Boot, ElfAndMultibootCutOffAnywhereAreRefused) {
  for (const auto &whole : {elf(pvh_parts()), raw_multiboot()})
    for (size_t size = 0; size < whole.size(); size += 3)
      EXPECT_FALSE(boot(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)))) << size;
}

// ---- choosing

TEST_F(Boot, NamesWhatIsNoKernel) {
  EXPECT_THAT(error({}), HasSubstr("empty"));
  EXPECT_THAT(error({0x1F, 0x8B, 8, 0}), HasSubstr("gzip"));
  EXPECT_THAT(error(Bytes(100, 'x')), HasSubstr("bzImage"));
}

TEST_F(Boot, EveryByteMayBeWrong) {
  memory = GuestMemory::create(kRam).value();
  for (const auto &whole : {bzimage(), elf(pvh_parts()), raw_multiboot()}) {
    for (size_t i = 0; i < std::min<size_t>(whole.size(), 0x290); i++) {
      for (const u8 value : {u8{0}, u8{0x7F}, u8{0xFF}}) {
        auto file = whole;
        file[i] = value;
        const auto state = load(files(file), *memory);
        EXPECT_TRUE(!state || memory->host(Gpa(state->rip), 1)) << i;
      }
    }
  }
}

} // namespace
} // namespace abyme::machine::boot
