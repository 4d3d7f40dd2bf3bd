#include "cli/nest/images.hpp"
#include "cli/nest/guest_program.hpp"
#include "image/executable.hpp"
#include "image/file.hpp"
#include "image/initramfs.hpp"
#include "image/modules.hpp"
#include "image/package.hpp"
#include <sstream>

namespace abyme::cli::nest {
namespace fs = std::filesystem;
namespace {

// In MiB: what Debian's kernel and a shell take, what a program to measure takes, and what the VMM of the next level
// takes.
constexpr u64 kKernelNeeds = 176, kProgramNeeds = 96, kVmmNeeds = 64;

constexpr const char *kApplets[] = {"sh", "mount", "insmod", "grep", "dmesg", "tail", "poweroff"};

// Everything that goes into more than one level.
struct Parts {
  const Options &options;
  image::Kernel kernel;
  std::vector<u8> kernel_file;
  fs::path busybox;
  std::vector<image::Module> modules; // to be a hypervisor
};

struct LevelImage {
  std::vector<u8> initrd;
  u64 memory_mib = 0;
};

Result<fs::path> find_busybox(const image::Cache &cache) {
  for (const char *path : {"/bin/busybox", "/usr/bin/busybox"}) {
    std::error_code error;
    if (!fs::is_regular_file(path, error)) continue;
    if (const auto libraries = image::libraries_of(path); libraries && libraries->empty()) return fs::path(path);
  }
  const auto folder = image::package_folder(cache, "busybox-static");
  if (!folder) return fail("no static busybox here: apt-get install busybox-static ({})", folder.error().message);
  return *folder / "bin" / "busybox";
}

Result<Parts> gather(const Options &options, const image::Cache &cache) {
  auto kernel = image::find_kernel(cache, options.kernel);
  if (!kernel) return std::unexpected(kernel.error());
  auto busybox = find_busybox(cache);
  if (!busybox) return std::unexpected(busybox.error());
  Parts parts{options, std::move(*kernel), {}, std::move(*busybox), {}};
  if (options.levels == 1) return parts;
  if (parts.kernel.modules.empty())
    return fail("--kernel {}: no modules of {} beside it or in /lib/modules, and L1 needs kvm; a Debian package "
                "(linux-image-cloud-amd64) brings them",
                options.kernel, parts.kernel.version);
  auto file = image::read_file(parts.kernel.file);
  if (!file) return std::unexpected(file.error());
  parts.kernel_file = std::move(*file);
  // Intel's for our own VT-x, AMD's for software CPUs that have SVM instead; a level loads the one that its CPU is made
  // for.
  auto modules = image::load_modules(parts.kernel.modules, {"irqbypass", "kvm", "kvm-intel", "kvm-amd"});
  if (!modules) return std::unexpected(modules.error());
  parts.modules = std::move(*modules);
  return parts;
}

std::string program_line(const Options &options) {
  if (options.program.empty()) return "";
  const auto arguments = options.program.substr(std::min(options.program.find(' '), options.program.size()));
  return fmt::format("/bin/program{} | while IFS= read -r line; do echo \"@abyme output $line\"; done\n", arguments);
}

std::string vmm_command(const Options &options, u64 memory_mib) {
  if (options.inner == Vmm::Abyme)
    return fmt::format("abyme run --accel kvm --kernel /vmlinuz --initrd /next --memory {}M --cpus {} --append '{}' "
                       "--console stdio --no-reboot",
                       memory_mib, options.cpus, command_line());
  return fmt::format("qemu-system-x86_64 -L /usr/share/seabios -L /usr/share/qemu -M q35,hpet=off -nodefaults "
                     "-accel kvm -cpu host -m {} -smp {} -display none -serial stdio -no-reboot -kernel /vmlinuz "
                     "-initrd /next -append '{}'",
                     memory_mib, options.cpus, command_line());
}

// Lines of the level inside pass through behind "| "; so the number of bars tells whose a line is.
std::string next_level_lines(const Options &options, const std::vector<image::Module> &modules, u64 memory_mib) {
  std::string load;
  for (const auto &module : modules)
    if (module.name != "kvm_intel" && module.name != "kvm_amd")
      load += fmt::format("insmod /lib/modules/{}.ko\n", module.name);
  return fmt::format(R"(if grep -qw vmx /proc/cpuinfo; then kvm=kvm_intel; else kvm=kvm_amd; fi
{}insmod /lib/modules/$kvm.ko
echo "@abyme starting kvm=$kvm"
{{ {} </dev/null 2>&1; status=$?; [ $status = 0 ] || dmesg | tail -n 5; echo "@abyme ended status=$status"; }} | while IFS= read -r line; do echo "| $line"; done
)",
                     load, vmm_command(options, memory_mib));
}

std::string init_script(const Options &options, const std::string &next_level) {
  return fmt::format(R"(#!/bin/busybox sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
read -r uptime rest </proc/uptime
read -r name word version rest </proc/version
echo "@abyme up uptime=$uptime kernel=$version"
measure
{}{}echo "@abyme done"
poweroff -f
)",
                     program_line(options), next_level);
}

Result<void> add_vmm(image::Initramfs &image, Vmm vmm) {
  if (vmm == Vmm::Abyme) return image.add_program("/proc/self/exe", "/bin/abyme");
  const fs::path qemu = "/usr/bin/qemu-system-x86_64";
  std::error_code error;
  if (!fs::exists(qemu, error))
    return fail("--vmm qemu: {} is missing: apt-get install qemu-system-x86", qemu.string());
  if (auto added = image.add_program(qemu, "/bin/qemu-system-x86_64"); !added) return added;
  for (const char *firmware :
       {"/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/linuxboot_dma.bin", "/usr/share/qemu/kvmvapic.bin"}) {
    const auto content = image::read_file(firmware);
    if (!content) return fail("--vmm qemu: {}: apt-get install qemu-system-x86 seabios", content.error().message);
    image.add_file(firmware, *content);
  }
  return {};
}

Result<void> add_program(image::Initramfs &image, const std::string &command) {
  const auto path = command.substr(0, command.find(' '));
  if (const auto libraries = image::libraries_of(path); !libraries) return std::unexpected(libraries.error());
  return image.add_program(path, "/bin/program");
}

Result<void> add_hypervisor(image::Initramfs &image, const Parts &parts, const LevelImage &next) {
  if (auto added = add_vmm(image, parts.options.inner); !added) return added;
  for (const auto &module : parts.modules) image.add_file("/lib/modules/" + module.name + ".ko", module.object);
  image.add_file("/vmlinuz", parts.kernel_file);
  image.add_file("/next", next.initrd);
  return {};
}

Result<LevelImage> make_level(const Parts &parts, unsigned level) {
  image::Initramfs image;
  for (const char *folder : {"/proc", "/sys", "/dev", "/tmp"}) image.add_folder(folder);
  const auto busybox = image::read_file(parts.busybox);
  if (!busybox) return std::unexpected(busybox.error());
  image.add_file("/bin/busybox", *busybox, 0755);
  for (const char *applet : kApplets) image.add_link(fmt::format("/bin/{}", applet), "busybox");
  image.add_file("/bin/measure", guest_measure_program(), 0755);
  if (!parts.options.program.empty())
    if (auto added = add_program(image, parts.options.program); !added) return std::unexpected(added.error());
  LevelImage out;
  std::string next_lines;
  if (level < parts.options.levels) {
    const auto next = make_level(parts, level + 1);
    if (!next) return next;
    if (auto added = add_hypervisor(image, parts, *next); !added) return std::unexpected(added.error());
    next_lines = next_level_lines(parts.options, parts.modules, next->memory_mib);
    out.memory_mib = next->memory_mib + kVmmNeeds;
  }
  image.add_file("/init", init_script(parts.options, next_lines), 0755);
  out.initrd = image.finish();
  // Twice the image: once as the loader put it there, once unpacked.
  out.memory_mib += kKernelNeeds + (parts.options.program.empty() ? 0 : kProgramNeeds) + (out.initrd.size() * 2 >> 20);
  return out;
}

} // namespace

std::string command_line() { return "console=ttyS0 quiet panic=-1 rootfstype=ramfs 8250.nr_uarts=1 i8042.noaux"; }

Result<Images> make_images(const Options &options) {
  const auto cache = image::Cache::open();
  if (!cache) return std::unexpected(cache.error());
  const auto parts = gather(options, *cache);
  if (!parts) return std::unexpected(parts.error());
  const auto first = make_level(*parts, 1);
  if (!first) return std::unexpected(first.error());
  auto file = cache->file("nest", first->initrd);
  if (!file) return std::unexpected(file.error());
  return Images{parts->kernel, std::move(*file), first->memory_mib};
}

} // namespace abyme::cli::nest
