#include "net/vhost/net_device.hpp"
#include "net/vhost/features.hpp"

namespace abyme::net {
namespace {

constexpr u64 kFeatures = feature::kVersion1 | feature::kPacked | feature::kIndirect | feature::kEventIndex |
                          feature::kAnyLayout | feature::kProtocolFeatures | feature::kMergeable |
                          feature::kMultiqueue | feature::kMtu | feature::kChecksum | feature::kGuestChecksum |
                          feature::kHostTso4 | feature::kHostTso6 | feature::kGuestTso4 | feature::kGuestTso6;

constexpr u64 kProtocolFeatures = feature::protocol::kMultiqueue | feature::protocol::kRarp |
                                  feature::protocol::kReplyAck | feature::protocol::kNetMtu |
                                  feature::protocol::kResetDevice | feature::protocol::kMemorySlots |
                                  feature::protocol::kStatus;

constexpr std::size_t kVringState = 8, kVringAddress = 40, kRegion = 32;

VhostMessage reply_to(const VhostMessage &m) {
  return {.request = m.request, .flags = VhostMessage::kVersion | VhostMessage::kReply, .payload = {}, .fds = {}};
}

VhostMessage reply_u64(const VhostMessage &m, u64 value) {
  auto r = reply_to(m);
  r.put(value);
  return r;
}

Result<void> need(const VhostMessage &m, std::size_t bytes) {
  if (m.payload.size() >= bytes) return {};
  return fail("vhost-user request {} has {} bytes; it needs {}", static_cast<u32>(m.request), m.payload.size(), bytes);
}

RegionInfo region_at(const VhostMessage &m, std::size_t at) {
  return {
      .guest = m.get<u64>(at), .size = m.get<u64>(at + 8), .user = m.get<u64>(at + 16), .offset = m.get<u64>(at + 24)};
}

} // namespace

VhostNetDevice::VhostNetDevice(unsigned pairs, NetDeviceOwner &owner) : owner_(owner), queues_(2 * pairs) {}

bool VhostNetDevice::packed() const { return features_ & feature::kPacked; }

Result<VhostNetDevice::Queue *> VhostNetDevice::queue_of(u64 index) {
  if (index >= queues_.size()) return fail("queue {} of {}", index, queues_.size());
  return &queues_[index];
}

Result<std::optional<VhostMessage>> VhostNetDevice::handle(VhostMessage m) {
  const bool ack = m.flags & VhostMessage::kNeedReply && protocol_features_ & feature::protocol::kReplyAck;
  auto reply = dispatch(m);
  if (!reply) return reply;
  if (!*reply && ack) return reply_u64(m, 0);
  return reply;
}

VhostNetDevice::Reply VhostNetDevice::dispatch(VhostMessage &m) {
  const auto none = [](Result<void> r) -> Reply {
    if (!r) return std::unexpected(r.error());
    return std::nullopt;
  };
  switch (m.request) {
  case VhostRequest::GetFeatures: return reply_u64(m, kFeatures);
  case VhostRequest::GetProtocolFeatures: return reply_u64(m, kProtocolFeatures);
  case VhostRequest::GetQueueNum: return reply_u64(m, queues_.size() / 2);
  case VhostRequest::GetMaxMemSlots: return reply_u64(m, GuestMemory::kMaxRegions);
  case VhostRequest::GetStatus: return reply_u64(m, status_);
  case VhostRequest::GetVringBase: return get_vring_base(m);
  case VhostRequest::SetFeatures: return none(set_features(m));
  case VhostRequest::SetMemTable: return none(set_memory(m));
  case VhostRequest::AddMemReg: return none(add_memory(m));
  case VhostRequest::RemMemReg: return none(remove_memory(m));
  case VhostRequest::SetVringNum:
  case VhostRequest::SetVringBase:
  case VhostRequest::SetVringEnable: return none(set_vring(m));
  case VhostRequest::SetVringAddr: return none(set_vring_address(m));
  case VhostRequest::SetVringKick:
  case VhostRequest::SetVringCall:
  case VhostRequest::SetVringErr: return none(set_vring_fd(m));
  case VhostRequest::SetOwner: return std::nullopt;
  case VhostRequest::ResetOwner:
  case VhostRequest::ResetDevice: reset(); return std::nullopt;
  default: break;
  }
  if (auto ok = need(m, 8); !ok) return std::unexpected(ok.error());
  const u64 value = m.get<u64>(0);
  switch (m.request) {
  case VhostRequest::SetProtocolFeatures:
    if (value & ~kProtocolFeatures) return fail("protocol features {:#x} were not offered", value & ~kProtocolFeatures);
    protocol_features_ = value;
    return std::nullopt;
  case VhostRequest::SetStatus:
    status_ = static_cast<u8>(value);
    if (status_ == 0) reset();
    return std::nullopt;
  case VhostRequest::NetSetMtu: mtu_ = static_cast<u16>(value); return std::nullopt;
  case VhostRequest::SendRarp: {
    u8 bytes[8];
    std::memcpy(bytes, &value, sizeof bytes);
    owner_.rarp_asked(MacAddress::load(bytes));
    return std::nullopt;
  }
  default: return fail("unknown vhost-user request {}", static_cast<u32>(m.request));
  }
}

Result<void> VhostNetDevice::set_features(const VhostMessage &m) {
  if (auto ok = need(m, 8); !ok) return ok;
  const u64 wanted = m.get<u64>(0);
  if (wanted & ~kFeatures) return fail("features {:#x} were not offered", wanted & ~kFeatures);
  const auto has = [&](u64 feature) { return static_cast<bool>(wanted & feature); };
  if (wanted != features_)
    for (unsigned i = 0; i < queues_.size(); i++) stop(i);
  features_ = wanted;
  net_.mergeable = has(feature::kMergeable);
  net_.header = has(feature::kVersion1) || net_.mergeable ? 12 : 10;
  net_.guest_offloads_checksum = has(feature::kChecksum);
  net_.guest_finishes = {
      .checksum = has(feature::kGuestChecksum), .tso4 = has(feature::kGuestTso4), .tso6 = has(feature::kGuestTso6)};
  // Without protocol features there is no message that enables a queue: all are (vhost-user, "Ring states").
  if (!has(feature::kProtocolFeatures))
    for (Queue &q : queues_) q.enabled = true;
  start_ready();
  return {};
}

Result<void> VhostNetDevice::set_memory(VhostMessage &m) {
  if (auto ok = need(m, 8); !ok) return ok;
  const u32 count = m.get<u32>(0);
  if (count > VhostReader::kMaxFds || count != m.fds.size())
    return fail("{} memory regions came with {} descriptors", count, m.fds.size());
  if (auto ok = need(m, 8 + count * kRegion); !ok) return ok;
  for (Queue &q : queues_) {
    if (q.running) q.base = q.ring.base();
    q.running = false;
  }
  memory_.clear();
  for (u32 i = 0; i < count; i++)
    if (auto ok = memory_.add(region_at(m, 8 + i * kRegion), m.fds[i]); !ok) return ok;
  start_ready();
  owner_.queues_changed();
  return {};
}

Result<void> VhostNetDevice::add_memory(VhostMessage &m) {
  if (auto ok = need(m, 8 + kRegion); !ok) return ok;
  if (m.fds.size() != 1) return fail("a memory region came with {} descriptors; it needs one", m.fds.size());
  if (auto ok = memory_.add(region_at(m, 8), m.fds[0]); !ok) return ok;
  start_ready();
  return {};
}

Result<void> VhostNetDevice::remove_memory(const VhostMessage &m) {
  if (auto ok = need(m, 8 + kRegion); !ok) return ok;
  const RegionInfo r = region_at(m, 8);
  for (unsigned i = 0; i < queues_.size(); i++) stop(i); // a ring may stand in it; those that do not start again
  if (!memory_.remove(r.guest, r.size, r.user)) return fail("no memory region at {:#x}", r.guest);
  start_ready();
  owner_.queues_changed();
  return {};
}

Result<void> VhostNetDevice::set_vring(const VhostMessage &m) {
  if (auto ok = need(m, kVringState); !ok) return ok;
  auto found = queue_of(m.get<u32>(0));
  if (!found) return std::unexpected(found.error());
  Queue &q = **found;
  const u32 value = m.get<u32>(4);
  const unsigned index = m.get<u32>(0);
  switch (m.request) {
  case VhostRequest::SetVringNum:
    if (value == 0 || value > kMaxQueueSize)
      return fail("a queue of {} descriptors; 1 to {} are possible", value, kMaxQueueSize);
    stop(index);
    q.size = static_cast<u16>(value);
    break;
  case VhostRequest::SetVringBase:
    stop(index);
    q.base = value;
    break;
  default:
    q.enabled = value != 0;
    if (!q.enabled) stop(index);
  }
  start_ready();
  return {};
}

Result<void> VhostNetDevice::set_vring_address(const VhostMessage &m) {
  if (auto ok = need(m, kVringAddress); !ok) return ok;
  auto found = queue_of(m.get<u32>(0));
  if (!found) return std::unexpected(found.error());
  Queue &q = **found;
  stop(m.get<u32>(0));
  q.setup.descriptors = m.get<u64>(8);
  q.setup.device = m.get<u64>(16);
  q.setup.driver = m.get<u64>(24);
  q.addressed = true;
  start_ready();
  return {};
}

Result<void> VhostNetDevice::set_vring_fd(VhostMessage &m) {
  constexpr u64 kIndex = 0xff, kNoFd = 0x100;
  if (auto ok = need(m, 8); !ok) return ok;
  const u64 value = m.get<u64>(0);
  auto found = queue_of(value & kIndex);
  if (!found) return std::unexpected(found.error());
  Queue &q = **found;
  if (!(value & kNoFd) && m.fds.size() != 1) return fail("a queue's descriptor came {} times", m.fds.size());
  Fd fd = value & kNoFd ? Fd() : std::move(m.fds[0]);
  switch (m.request) {
  case VhostRequest::SetVringCall: q.call = std::move(fd); break;
  case VhostRequest::SetVringErr: q.error = std::move(fd); break;
  default:
    // The old descriptor stays open until its owner has forgotten it.
    std::swap(q.kick, fd);
    q.kickable = true;
    owner_.kick_changed(static_cast<unsigned>(value & kIndex));
    start_ready();
  }
  return {};
}

VhostNetDevice::Reply VhostNetDevice::get_vring_base(const VhostMessage &m) {
  if (auto ok = need(m, kVringState); !ok) return std::unexpected(ok.error());
  const u32 index = m.get<u32>(0);
  auto found = queue_of(index);
  if (!found) return std::unexpected(found.error());
  Queue &q = **found;
  stop(index);
  q.kickable = false; // it starts again with a new kick descriptor
  auto reply = reply_to(m);
  reply.put(index);
  reply.put(q.base);
  return reply;
}

void VhostNetDevice::start_ready() {
  bool changed = false;
  for (unsigned i = 0; i < queues_.size(); i++)
    if (!queues_[i].running && try_start(queues_[i])) changed = true;
  if (changed) owner_.queues_changed();
}

bool VhostNetDevice::try_start(Queue &q) {
  if (!q.enabled || !q.addressed || !q.size || !q.kickable || memory_.empty()) return false;
  q.setup.size = q.size;
  q.setup.indirect = features_ & feature::kIndirect;
  q.setup.event_index = features_ & feature::kEventIndex;
  q.running = packed() ? q.ring.attach_packed(memory_, q.setup, q.base) : q.ring.attach_split(memory_, q.setup);
  return q.running;
}

void VhostNetDevice::stop(unsigned index) {
  Queue &q = queues_[index];
  if (!q.running) return;
  q.base = q.ring.base();
  q.running = false;
  owner_.queues_changed();
}

void VhostNetDevice::reset() {
  for (unsigned i = 0; i < queues_.size(); i++) {
    stop(i);
    Queue &q = queues_[i];
    q.addressed = q.kickable = false;
    q.enabled = !(features_ & feature::kProtocolFeatures);
    q.base = 0;
  }
}

} // namespace abyme::net
