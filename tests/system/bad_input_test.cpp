#include "system/fixture.hpp"
#include <cstring>
#include <elf.h>
#include <functional>
#include <random>
#include <sys/stat.h>

// Bad input is answered with status 2 and an error that names it, and leaves nothing behind: no file, no process. What
// cannot be seen to be bad before it runs ends as a guest's crash, not as ours.
namespace abyme::system_test {
namespace {

constexpr seconds kAnswer{20};

template <class T> void put(std::string &file, size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof value);
}

class BadInput : public SystemTest {
protected:
  void SetUp() override {
    SystemTest::SetUp();
    write_file("text", "this is not a kernel\n");
    write_file("good", elf());
    write_file("disk", std::string(4096, '\0'));
  }

  // A kernel that would run: an ELF file with a PVH note and one segment of a HLT.
  static std::string elf(const std::function<void(Elf64_Ehdr &, Elf64_Phdr &load, Elf64_Phdr &note)> &change = {}) {
    struct File {
      Elf64_Ehdr header;
      Elf64_Phdr load, note;
      Elf64_Nhdr note_header;
      char name[4];
      uint32_t entry, padding;
      char code[16];
    } file{};
    std::memcpy(file.header.e_ident,
                "\x7f"
                "ELF\2\1\1",
                7);
    file.header.e_type = ET_EXEC;
    file.header.e_machine = EM_X86_64;
    file.header.e_version = 1;
    file.header.e_entry = 0x100000;
    file.header.e_phoff = offsetof(File, load);
    file.header.e_ehsize = sizeof(Elf64_Ehdr);
    file.header.e_phentsize = sizeof(Elf64_Phdr);
    file.header.e_phnum = 2;
    file.load = {PT_LOAD, PF_X | PF_R, offsetof(File, code), 0x100000, 0x100000, sizeof file.code, 0x1000, 0x1000};
    file.note = {PT_NOTE, PF_R, offsetof(File, note_header), 0, 0, 20, 20, 4};
    file.note_header = {4, 4, 18}; // XEN_ELFNOTE_PHYS32_ENTRY
    std::memcpy(file.name, "Xen", 4);
    file.entry = 0x100000;
    std::memset(file.code, 0xF4, sizeof file.code);
    if (change) change(file.header, file.load, file.note);
    return {reinterpret_cast<const char *>(&file), sizeof file};
  }

  // What the test's folder holds, and the sizes.
  std::string inventory() const {
    std::string text;
    for (const auto &entry : std::filesystem::recursive_directory_iterator(path("")))
      text += entry.path().string() + (entry.is_regular_file() ? " " + std::to_string(entry.file_size()) : "") + "\n";
    return text;
  }

  // Places where abyme might leave something are in the test's folder, too.
  Process::Setting watched() const {
    auto setting = here();
    for (const char *name : {"TMPDIR", "HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME"})
      setting.environment.push_back(std::string(name) + "=" + path(""));
    return setting;
  }

  void expect_refusal(std::vector<std::string> options, const std::string &words,
                      const std::string &kernel = "good") const {
    std::string line;
    for (const auto &option : options) line += option.substr(0, 100) + " ";
    std::vector<std::string> all{"run", "--accel", "soft", "--kernel", kernel};
    // Outputs that would have been made, had it started.
    for (const char *option : {"--console", "file:console", "--console", "socket:socket", "--stats", "stats"})
      all.emplace_back(option);
    all.insert(all.end(), options.begin(), options.end());
    const auto before = inventory();
    Process abyme(all, watched());
    EXPECT_EQ(abyme.ends(kAnswer), 2) << kernel << " " << line << abyme.report();
    EXPECT_THAT(abyme.errors(), HasSubstr(words)) << kernel << " " << line;
    EXPECT_EQ(abyme.output(), "") << line;
    EXPECT_EQ(inventory(), before) << line;
    EXPECT_FALSE(has_descendants()) << line;
  }
  void expect_bad_kernel(const std::string &content, const std::string &words) const {
    write_file("bad", content);
    expect_refusal({}, words, "bad");
  }
};

TEST_F(BadInput, TheGoodOneRuns) {
  Process abyme({"run", "--accel", "soft", "--kernel", "good", "--disk", "disk", "--memory", "16M"}, watched());
  EXPECT_EQ(abyme.ends(seconds(1)), std::nullopt) << abyme.report();
  abyme.signal(SIGTERM);
  EXPECT_EQ(abyme.ends(kAnswer), 128 + SIGTERM) << abyme.report();
}

TEST_F(BadInput, Options) {
  for (const char *memory : {"", "M", "0", "0M", "15M", "65G", "1.5G", "-1G", "1T", "512", "99999999999999999999G",
                             "18446744073709551616K", "16385K", "0x10M", "1G1"})
    expect_refusal({"--memory", memory}, "--memory");
  for (const char *cpus : {"0", "17", "-1", "4294967297", "two", ""}) expect_refusal({"--cpus", cpus}, "--cpus");
  for (const char *cpu : {"pentium9", ",", "max,", "max,vmx", "max,+", "max,+nothing", "max,-nothing", "+vmx,max",
                          "nehalem,+avx512f,+nothing", "max,-vmx,,-aes", "%s%n"})
    expect_refusal({"--cpu", cpu}, "CPU ");
  expect_refusal({"--cpu", std::string(100'000, 'x')}, "CPU model");
  expect_refusal({"--accel", "tcg"}, "--accel");
  expect_refusal({"--nonsense"}, "--nonsense");
}

TEST_F(BadInput, Files) {
  ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
  write_file("empty", "");
  write_file("odd", std::string(1000, 'x'));
  write_file("large", std::string(17 << 20, '\0'));
  for (const char *kernel : {"nowhere", ".", "fifo", "/dev/zero", "text", "empty", ""})
    expect_refusal({}, kernel, kernel);
  for (const char *initrd : {"nowhere", ".", "fifo"}) expect_refusal({"--initrd", initrd}, initrd);
  expect_refusal({"--initrd", "large", "--memory", "16M"}, "large");
  for (const char *disk : {"nowhere", ".", "fifo", "empty", "odd", "/dev/null", ",ro"})
    expect_refusal({"--disk", disk}, disk);
  expect_refusal({"--disk", "disk", "--disk", "nowhere,ro"}, "disk nowhere:");
}

TEST_F(BadInput, ElfHeaders) {
  const auto bad = [this](const char *words, const auto &change) { expect_bad_kernel(elf(change), words); };
  using Header = Elf64_Ehdr &;
  using Program = Elf64_Phdr &;
  bad("bad: ELF class 3", [](Header h, Program, Program) { h.e_ident[EI_CLASS] = 3; });
  bad("little-endian", [](Header h, Program, Program) { h.e_ident[EI_DATA] = ELFDATA2MSB; });
  bad("not x86", [](Header h, Program, Program) { h.e_machine = EM_AARCH64; });
  bad("not an executable", [](Header h, Program, Program) { h.e_type = ET_REL; });
  bad("program headers", [](Header h, Program, Program) { h.e_phnum = 0; });
  bad("program headers", [](Header h, Program, Program) { h.e_phnum = 0xFFFF; });
  bad("program headers", [](Header h, Program, Program) { h.e_phentsize = 1; });
  bad("beyond the end", [](Header h, Program, Program) { h.e_phoff = ~0ull; });
  bad("beyond the end", [](Header h, Program, Program) { h.e_phoff = ~0ull - sizeof(Elf64_Phdr) + 1; });
  bad("truncated", [](Header, Program load, Program) { load.p_offset = ~0ull; });
  bad("truncated", [](Header, Program load, Program) { load.p_filesz = load.p_memsz = ~0ull; });
  bad("only", [](Header, Program load, Program) { load.p_memsz = 1; });
  for (const uint64_t address : {0xFFFFF000ull, 0xC0000000ull, 1ull << 40, ~0ull, ~0ull - 0xFFF})
    bad("bad: segment 0", [=](Header, Program load, Program) { load.p_paddr = address; });
  bad("bad: segment 0", [](Header, Program load, Program) { load.p_memsz = ~0ull; });
  bad("nothing to load", [](Header, Program load, Program) { load.p_type = PT_NULL; });
  bad("neither a PVH", [](Header, Program, Program note) { note.p_type = PT_NULL; });
  bad("neither a PVH", [](Header, Program, Program note) { note.p_filesz = 12; });
  for (const size_t length : {4, 16, 63, 64, 100, 180}) expect_bad_kernel(elf().substr(0, length), "bad: ");
}

TEST_F(BadInput, MultibootHeaders) {
  const auto image = [](std::vector<uint32_t> words) {
    words[2] = -(words[0] + words[1]);
    return std::string(reinterpret_cast<const char *>(words.data()), words.size() * 4);
  };
  constexpr uint32_t kMagic = 0x1BADB002, kAddresses = 1 << 16, kBase = 0x100000;
  // header, load, load end, bss end, entry
  for (const auto &[at, load, end, bss, entry] : {std::array<uint32_t, 5>{kBase, kBase + 64, 0, 0, kBase},
                                                  {kBase, kBase, kBase - 4, 0, kBase},

                                                  {kBase, kBase, 0xFFFFFFFF, 0, kBase},
                                                  {kBase, kBase, 0, 0xFFFFFFFF, kBase},
                                                  {~3u, ~3u, 0, 0, ~3u}})
    expect_bad_kernel(image({kMagic, kAddresses, 0, at, load, end, bss, entry}), "bad: ");
  expect_bad_kernel(image({kMagic, kAddresses, 0}), "bad: ");
  expect_bad_kernel(image({kMagic, 0, 0, 0}), "bad: "); // neither addresses nor ELF
}

class BadBzImage : public BadInput {
protected:
  // The beginning of a bzImage as Debian's is, and 1 MiB of what would be its code.
  static std::string bzimage(std::string payload = std::string(1 << 20, '\xF4')) {
    std::string file(1024, '\0');
    file[0x1F1] = 1; // setup_sects
    put<uint32_t>(file, 0x1F4, static_cast<uint32_t>(payload.size() / 16));
    put<uint16_t>(file, 0x1FE, 0xAA55);
    put<uint16_t>(file, 0x200, 0x66EB);
    std::memcpy(file.data() + 0x202, "HdrS", 4);
    put<uint16_t>(file, 0x206, 0x20F);
    file[0x211] = 1;                        // loadflags: LOADED_HIGH
    put<uint32_t>(file, 0x22C, 0x7FFFFFFF); // initrd_addr_max
    put<uint32_t>(file, 0x230, 0x200000);   // kernel_alignment
    file[0x234] = 1;                        // relocatable_kernel
    put<uint16_t>(file, 0x236, 1);          // xloadflags: XLF_KERNEL_64
    put<uint32_t>(file, 0x238, 2047);       // cmdline_size
    put<uint64_t>(file, 0x258, 0x1000000);  // pref_address
    put<uint32_t>(file, 0x260, 0x200000);   // init_size
    return file + payload;
  }
  template <class T> void bad_field(size_t at, T value, const char *words = "bad: ") const {
    auto file = bzimage();
    put(file, at, value);
    expect_bad_kernel(file, words);
  }
};

TEST_F(BadBzImage, Headers) {
  for (const size_t length : {0x206, 0x240, 0x267, 1024, 4096, (1 << 20)})
    expect_bad_kernel(bzimage().substr(0, length), "bad: ");
  bad_field<uint8_t>(0x1F1, 255 /* sectors: the payload's end is missing */, "truncated");
  bad_field<uint32_t>(0x1F4, 0xFFFFFFFF, "truncated");
  bad_field<uint16_t>(0x206, 0x1FF, "boot protocol");
  bad_field<uint16_t>(0x236, 0, "64-bit entry");
  bad_field<uint8_t>(0x211, 0, "zImage");
  for (const uint32_t alignment : {0u, 3u, 1u, ~0u}) bad_field(0x230, alignment, "kernel_alignment");
  bad_field<uint32_t>(0x260, 0xFFFFFFFF); // init_size: more than there is
  write_file("bzimage", bzimage());
  expect_refusal({"--append", std::string(2048, 'x')}, "command line", "bzimage");
}

// Code that makes no sense: the guest crashes or goes on for ever, and abyme does neither.
TEST_F(BadBzImage, RandomCodeIsTheGuestsProblem) {
  for (unsigned seed = 1; seed <= 8; seed++) {
    std::mt19937 random(seed);
    std::string payload(1 << 20, '\0');
    for (auto &byte : payload) byte = static_cast<char>(random());
    write_file("random", bzimage(payload));
    Process abyme({"run", "--accel", "soft", "--no-reboot", "--kernel", "random", "--memory", "64M"}, watched());
    auto status = abyme.ends(seconds(1));
    if (!status) {
      abyme.signal(SIGTERM);
      status = abyme.ends(kAnswer);
    }
    EXPECT_THAT(status, testing::AnyOf(0, 3, 4, 128 + SIGTERM)) << "seed " << seed << abyme.report();
  }
}

} // namespace
} // namespace abyme::system_test
