#include "net/vhost/memory.hpp"

namespace abyme::net {

Result<void> GuestMemory::add(const RegionInfo &info, const Fd &file) {
  if (regions_.size() >= kMaxRegions) return fail("more than {} memory regions", kMaxRegions);
  if (info.size == 0 || info.offset + info.size < info.offset || info.guest + info.size < info.guest ||
      info.user + info.size < info.user)
    return fail("memory region at {:#x} of {:#x} bytes, {:#x} into its file, wraps around or is empty", info.guest,
                info.size, info.offset);
  for (const Region &r : regions_)
    if (info.guest < r.guest + r.size && r.guest < info.guest + info.size)
      return fail("memory regions at {:#x} and {:#x} overlap", r.guest, info.guest);
  auto mapping = SharedMapping::map(file, info.offset + info.size);
  if (!mapping) return std::unexpected(mapping.error());
  u8 *host = mapping->bytes().data() + info.offset;
  regions_.push_back({info.guest, info.size, info.user, host, std::move(*mapping)});
  return {};
}

bool GuestMemory::remove(u64 guest, u64 size, u64 user) {
  return std::erase_if(regions_,
                       [&](const Region &r) { return r.guest == guest && r.size == size && r.user == user; }) > 0;
}

} // namespace abyme::net
