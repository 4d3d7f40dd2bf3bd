#include "system/guest_image.hpp"
#include "image/file.hpp"
#include "image/initramfs.hpp"
#include "image/modules.hpp"

namespace abyme::system_test {
namespace {

constexpr const char *kInitHead = R"(#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
# The word NAME=VALUE of the kernel's command line.
argument() { for word in $(cat /proc/cmdline); do case $word in $1=*) echo "${word#*=}";; esac; done; }
)";

} // namespace

Result<std::vector<u8>> make_initramfs(const image::Kernel &kernel, const GuestImage &guest) {
  image::Initramfs image;
  for (const char *folder : {"/bin", "/proc", "/sys", "/dev", "/tmp"}) image.add_folder(folder);
  if (auto added = image.add_program("/bin/busybox", "/bin/busybox"); !added) return std::unexpected(added.error());
  const auto modules = image::load_modules(kernel.modules, guest.modules);
  if (!modules) return std::unexpected(modules.error());
  std::string init = kInitHead;
  for (const auto &module : *modules) {
    const auto path = "/lib/modules/" + module.name + ".ko";
    image.add_file(path, module.object);
    init += "insmod " + path + "\n";
  }
  for (const auto &program : guest.programs)
    if (auto added = image.add_program(program.host, program.guest); !added) return std::unexpected(added.error());
  for (const auto &file : guest.files) image.add_file(file.guest, file.content);
  image.add_file("/init", init + guest.script + "\npoweroff -f\n", 0755);
  return image.finish();
}

Result<void> add_hypervisor(GuestImage &guest, const image::Kernel &kernel, const GuestImage &next) {
  auto initramfs = make_initramfs(kernel, next);
  if (!initramfs) return std::unexpected(initramfs.error());
  auto file = image::read_file(kernel.file);
  if (!file) return std::unexpected(file.error());
  guest.programs.push_back({ABYME_BINARY, "/bin/abyme"});
  guest.files.push_back({"/vmlinuz", std::move(*file)});
  guest.files.push_back({"/next", std::move(*initramfs)});
  for (const char *module : {"irqbypass", "kvm", "kvm-intel"}) guest.modules.emplace_back(module);
  return {};
}

} // namespace abyme::system_test
