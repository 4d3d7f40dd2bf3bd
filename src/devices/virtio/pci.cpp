#include "devices/virtio/pci.hpp"
#include "base/log.hpp"
#include <sys/eventfd.h>

namespace abyme::virtio {
namespace {

constexpr u16 kVendor = 0x1af4;
constexpr u16 kModernDevice = 0x1040; // plus the device ID (virtio 1.2 §4.1.2.1)
constexpr u16 kSubsystem = 0x1100;
constexpr u8 kVendorCapability = 0x09;

// Where the structures lie in BAR 0.
constexpr u64 kCommon = 0x0000, kIsr = 0x1000, kDevice = 0x2000, kNotify = 0x3000, kRegisterBytes = 0x4000,
              kPage = 0x1000;
constexpr u32 kNotifyMultiplier = 4;

// virtio 1.2 §4.1.4
enum CapabilityType : u8 { CommonCfg = 1, NotifyCfg = 2, IsrCfg = 3, DeviceCfg = 4, PciCfg = 5 };

// struct virtio_pci_common_cfg (virtio 1.2 §4.1.4.3)
enum CommonField : u64 {
  DeviceFeatureSelect = 0x00,
  DeviceFeature = 0x04,
  DriverFeatureSelect = 0x08,
  DriverFeature = 0x0c,
  ConfigVector = 0x10,
  NumQueues = 0x12,
  DeviceStatus = 0x14,
  ConfigGeneration = 0x15,
  QueueSelect = 0x16,
  QueueSize = 0x18,
  QueueVector = 0x1a,
  QueueEnable = 0x1c,
  QueueNotifyOff = 0x1e,
  QueueDescriptors = 0x20,
  QueueDriver = 0x28,
  QueueDevice = 0x30,
  CommonBytes = 0x38,
};

// virtio 1.2 §2.1
constexpr u8 kFeaturesOk = 8, kDriverOk = 4, kNeedsReset = 64;
constexpr unsigned kComplaintsLogged = 10; // a hostile driver must not fill the log
constexpr u8 kIsrQueue = 1, kIsrConfig = 2;

u32 class_code(DeviceId id) {
  switch (id) {
  case DeviceId::Net: return 0x02'00'00;
  case DeviceId::Block: return 0x01'80'00;
  case DeviceId::Console: return 0x07'80'00;
  case DeviceId::Entropy: return 0xff'00'00;
  }
  return 0xff'00'00;
}

PciIdentity identity(DeviceId id) {
  const u16 number = static_cast<u16>(id);
  return {.vendor = kVendor,
          .device = static_cast<u16>(kModernDevice + number),
          .revision = 1,
          .class_code = class_code(id),
          .subsystem_vendor = kVendor,
          .subsystem = kSubsystem};
}

void put(std::span<u8> to, u64 at, u64 value, unsigned size) {
  for (unsigned i = 0; i < size; ++i) to[at + i] = static_cast<u8>(value >> i * 8);
}

u64 get(std::span<const u8> from, u64 at, unsigned size) {
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) value |= u64{from[at + i]} << i * 8;
  return value;
}

// A 64-bit register is written as two halves (virtio 1.2 §4.1.3.1), or whole.
Gpa merge(Gpa old, u64 offset, unsigned size, u64 value) {
  if (size == 8) return Gpa(value);
  const unsigned shift = offset % 8 == 0 ? 0 : 32;
  return Gpa((old.value & ~(0xffff'ffffull << shift)) | value << shift);
}

} // namespace

Result<std::unique_ptr<VirtioPci>> VirtioPci::create(Bus &bus, InterruptSink &sink, GuestMemory &memory,
                                                     std::unique_ptr<Device> device) {
  auto function = std::unique_ptr<VirtioPci>(new VirtioPci(bus, sink, memory, std::move(device)));
  if (const auto made = function->make_events(); !made) return std::unexpected(made.error());
  if (const auto attached = function->device_->attach(*function); !attached) return std::unexpected(attached.error());
  return function;
}

VirtioPci::VirtioPci(Bus &bus, InterruptSink &sink, GuestMemory &memory, std::unique_ptr<Device> device)
    : PciFunction(bus, sink, identity(device->id())), bus_(bus), memory_(memory),
      registers_(*this, &VirtioPci::read_registers, &VirtioPci::write_registers),
      window_(*this, &VirtioPci::read_window, &VirtioPci::write_window), queues_(device->queue_sizes().size()),
      device_(std::move(device)) {
  add_bar(kRegisterBar, BarKind::Memory32, kRegisterBytes, registers_);
  add_msix(kMsixBar, static_cast<unsigned>(queues_.size()) + 1);
  msix()->on_change([this](unsigned vector) { vector_changed(vector); });
  add_capabilities();
  clear_registers();
}

VirtioPci::~VirtioPci() { disconnect(); }

Result<void> VirtioPci::make_events() {
  for (QueueRegisters &q : queues_) {
    q.kick = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    q.call = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!q.kick || !q.call) return fail_errno("virtio: an eventfd for a queue");
  }
  return {};
}

// struct virtio_pci_cap (virtio 1.2 §4.1.4), after its ID and link.
void VirtioPci::add_structure(u8 type, u32 offset, u32 size, std::span<const u8> more) {
  std::vector<u8> body(14);
  body[0] = static_cast<u8>(16 + more.size()); // cap_len
  body[1] = type;
  body[2] = kRegisterBar;
  put(body, 6, offset, 4);
  put(body, 10, size, 4);
  body.insert(body.end(), more.begin(), more.end());
  add_capability(kVendorCapability, body);
}

void VirtioPci::add_capabilities() {
  std::array<u8, 4> multiplier{};
  put(multiplier, 0, kNotifyMultiplier, 4);
  add_structure(CommonCfg, kCommon, CommonBytes, {});
  add_structure(IsrCfg, kIsr, 1, {});
  if (device_->config_size() != 0) add_structure(DeviceCfg, kDevice, device_->config_size(), {});
  add_structure(NotifyCfg, kNotify, static_cast<u32>(queues_.size()) * kNotifyMultiplier, multiplier);
  // virtio 1.2 §4.1.4.9: the driver chooses BAR, offset and length, then accesses the window behind them.
  std::array<u8, 18> body{20, PciCfg}, writable{};
  writable[2] = 0xff;
  for (unsigned i = 6; i < 14; ++i) writable[i] = 0xff;
  window_at_ = add_capability(kVendorCapability, body, writable);
  overlay_config(static_cast<u8>(window_at_ + 16), 4, window_);
}

void VirtioPci::connect(Engine &engine) {
  engine_ = &engine;
  update_doorbells();
  for (QueueRegisters &q : queues_) update_irqfd(q);
}

void VirtioPci::disconnect() {
  if (!engine_) return;
  for (QueueRegisters &q : queues_) {
    if (q.doorbell) engine_->detach_doorbell(*q.doorbell, 2, q.kick.get());
    if (q.call_attached) engine_->detach_irqfd(q.call.get());
    q.doorbell.reset();
    q.call_attached = false;
  }
  engine_ = nullptr;
}

// A doorbell exists only where the bus would route the write to it: in a decoded BAR.
void VirtioPci::update_doorbells() {
  if (!engine_) return;
  const auto bar = bar_mapping(kRegisterBar);
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    QueueRegisters &q = queues_[i];
    std::optional<Gpa> wanted;
    if (bar) wanted = *bar + kNotify + i * kNotifyMultiplier;
    if (wanted == q.doorbell) continue;
    if (q.doorbell) engine_->detach_doorbell(*q.doorbell, 2, q.kick.get());
    q.doorbell = wanted && engine_->attach_doorbell(*wanted, 2, q.kick.get()) ? wanted : std::nullopt;
  }
}

void VirtioPci::update_irqfd(QueueRegisters &q) {
  if (!engine_ || !device_->served_outside()) return;
  if (q.call_attached) engine_->detach_irqfd(q.call.get());
  const u16 vector = q.vector;
  const auto message = vector == kNoVector ? std::nullopt : msix()->message(vector);
  q.call_attached = message && engine_->attach_irqfd(q.call.get(), message->address, message->data);
}

void VirtioPci::vector_changed(unsigned vector) {
  for (QueueRegisters &q : queues_)
    if (q.vector == vector) update_irqfd(q);
}

void VirtioPci::raise_intx(u8 isr_bit) {
  isr_ |= isr_bit;
  set_intx(true);
}

void VirtioPci::notify_used(u16 queue, u64 epoch) {
  const u16 vector = queues_[queue].vector;
  if (epoch_ != epoch || (vector != kNoVector && notify(vector))) return;
  const auto lock = bus_.lock();
  if (epoch_ == epoch && !msix_enabled()) raise_intx(kIsrQueue);
}

void VirtioPci::notify_config() {
  ++config_generation_;
  const auto lock = bus_.lock();
  if (status_ & kDriverOk) send_config_interrupt();
}

void VirtioPci::needs_reset(u64 epoch, const std::string &why) {
  const auto lock = bus_.lock();
  if (epoch_ == epoch) break_device(why);
}

void VirtioPci::send_config_interrupt() {
  const u16 vector = config_vector_;
  if (!msix_enabled())
    raise_intx(kIsrConfig);
  else if (vector != kNoVector)
    notify(vector);
}

// virtio 1.2 §2.1.2
void VirtioPci::break_device(const std::string &why) {
  if (complaints_++ < kComplaintsLogged)
    log::warn("virtio device {}: {}; it needs a reset by its driver", static_cast<unsigned>(device_->id()), why);
  status_ |= kNeedsReset;
  if (status_ & kDriverOk) send_config_interrupt();
}

u64 VirtioPci::read_registers(u64 offset, unsigned size) {
  if (offset < kIsr) return read_common(offset, size);
  if (offset < kDevice) return read_isr(offset - kIsr);
  if (offset < kNotify) return read_device(offset - kDevice, size);
  return 0;
}

void VirtioPci::write_registers(u64 offset, unsigned size, u64 value) {
  if (offset < kIsr) return write_common(offset, size, value);
  if (offset < kDevice) return; // ISR is read-only
  if (offset < kNotify) return write_device(offset - kDevice, size, value);
  kick(offset - kNotify);
}

u64 VirtioPci::read_common(u64 offset, unsigned size) {
  std::array<u8, CommonBytes> image{};
  if (offset + size > image.size()) return 0;
  put(image, DeviceFeatureSelect, device_feature_select_, 4);
  if (device_feature_select_ < 2) put(image, DeviceFeature, offered_features() >> device_feature_select_ * 32, 4);
  put(image, DriverFeatureSelect, driver_feature_select_, 4);
  if (driver_feature_select_ < 2) put(image, DriverFeature, driver_features_ >> driver_feature_select_ * 32, 4);
  put(image, ConfigVector, config_vector_, 2);
  put(image, NumQueues, queues_.size(), 2);
  put(image, DeviceStatus, status_, 1);
  put(image, ConfigGeneration, config_generation_, 1);
  put(image, QueueSelect, queue_select_, 2);
  if (queue_select_ < queues_.size()) { // of a queue that is not there all reads as 0 (virtio 1.2 §4.1.4.3.1)
    const QueueRegisters &q = queues_[queue_select_];
    put(image, QueueSize, q.setup.size, 2);
    put(image, QueueVector, q.vector, 2);
    put(image, QueueEnable, q.enabled, 2);
    put(image, QueueNotifyOff, queue_select_, 2);
    put(image, QueueDescriptors, q.setup.descriptors.value, 8);
    put(image, QueueDriver, q.setup.available.value, 8);
    put(image, QueueDevice, q.setup.used.value, 8);
  }
  return get(image, offset, size);
}

u16 VirtioPci::valid_vector(u64 value) const { return value <= queues_.size() ? static_cast<u16>(value) : kNoVector; }

// Accesses of a width other than the field's are no driver's (virtio 1.2 §4.1.3.1) and do nothing.
void VirtioPci::write_common(u64 offset, unsigned size, u64 value) {
  if (offset == DeviceStatus && size == 1) return write_status(static_cast<u8>(value));
  if (offset == QueueSelect && size == 2) queue_select_ = static_cast<u16>(value);
  if (offset == ConfigVector && size == 2) config_vector_ = valid_vector(value);
  if (offset >= QueueSize) return write_queue(offset, size, value);
  if (size != 4) return;
  if (offset == DeviceFeatureSelect) device_feature_select_ = static_cast<u32>(value);
  if (offset == DriverFeatureSelect) driver_feature_select_ = static_cast<u32>(value);
  if (offset == DriverFeature && driver_feature_select_ < 2 && !(status_ & kFeaturesOk)) {
    const unsigned shift = driver_feature_select_ * 32;
    driver_features_ = (driver_features_ & ~(0xffff'ffffull << shift)) | (value & 0xffff'ffff) << shift;
  }
}

void VirtioPci::write_queue(u64 offset, unsigned size, u64 value) {
  if (queue_select_ >= queues_.size()) return;
  QueueRegisters &q = queues_[queue_select_];
  if (offset == QueueVector && size == 2) {
    q.vector = valid_vector(value);
    return update_irqfd(q);
  }
  if (q.enabled || running_) return; // virtio 1.2 §4.1.4.3.2: all else is settled before the queue is enabled
  if (offset == QueueEnable && size == 2) q.enabled = value == 1;
  const u16 maximum = device_->queue_sizes()[queue_select_];
  if (offset == QueueSize && size == 2 && value != 0 && value <= maximum && (value & (value - 1)) == 0)
    q.setup.size = static_cast<u16>(value);
  if (size < 4 || offset % size != 0) return;
  switch (offset & ~7ull) {
  case QueueDescriptors: q.setup.descriptors = merge(q.setup.descriptors, offset, size, value); break;
  case QueueDriver: q.setup.available = merge(q.setup.available, offset, size, value); break;
  case QueueDevice: q.setup.used = merge(q.setup.used, offset, size, value); break;
  }
}

u64 VirtioPci::read_isr(u64 offset) {
  if (offset != 0) return 0;
  const u8 isr = std::exchange(isr_, u8{0});
  set_intx(false);
  return isr;
}

u64 VirtioPci::read_device(u64 offset, unsigned size) {
  if (offset + size > device_->config_size()) return 0;
  std::array<u8, 8> bytes{};
  device_->read_config(static_cast<u32>(offset), std::span(bytes).first(size));
  return get(bytes, 0, size);
}

void VirtioPci::write_device(u64 offset, unsigned size, u64 value) {
  if (offset + size > device_->config_size()) return;
  std::array<u8, 8> bytes{};
  put(bytes, 0, value, size);
  device_->write_config(static_cast<u32>(offset), std::span(bytes).first(size));
}

void VirtioPci::kick(u64 offset) {
  const u64 index = offset / kNotifyMultiplier;
  if (index < queues_.size() && running_) eventfd_write(queues_[index].kick.get(), 1);
}

// The window's BAR access, if what the driver programmed makes one: `size` bytes are accessed through it.
std::optional<VirtioPci::Window> VirtioPci::window(unsigned size) const {
  const std::span<const u8> body = config().subspan(window_at_);
  const u64 offset = get(body, 8, 4), length = get(body, 12, 4);
  if (body[4] != kRegisterBar || (length != 1 && length != 2 && length != 4) || length > size) return std::nullopt;
  if (offset % length != 0 || offset > kRegisterBytes - length) return std::nullopt;
  return Window{offset, static_cast<unsigned>(length)};
}

u64 VirtioPci::read_window(u64 offset, unsigned size) {
  const auto w = window(size);
  return w && offset == 0 ? read_registers(w->offset, w->size) : 0;
}

void VirtioPci::write_window(u64 offset, unsigned size, u64 value) {
  const auto w = window(size);
  if (w && offset == 0) write_registers(w->offset, w->size, value & ((1ull << w->size * 8) - 1));
}

void VirtioPci::write_status(u8 value) {
  if (value == 0) return stop();
  // Bits are only ever added (virtio 1.2 §2.1.1); these two are the device's to grant.
  status_ |= value & ~(kFeaturesOk | kDriverOk | kNeedsReset);
  if ((value & kFeaturesOk) && !(status_ & kFeaturesOk)) accept_features();
  if ((value & kDriverOk) && (status_ & kFeaturesOk) && !(status_ & kDriverOk)) start();
}

// virtio 1.2 §2.2.2, §6: FEATURES_OK stays clear for a set that this device does not offer, and for a driver of
// before 1.0.
void VirtioPci::accept_features() {
  if ((driver_features_ & ~offered_features()) == 0 && (driver_features_ & kVersion1)) status_ |= kFeaturesOk;
}

void VirtioPci::start() {
  status_ |= kDriverOk;
  std::vector<StartedQueue> started;
  for (const QueueRegisters &q : queues_) {
    started.push_back({q.enabled, q.setup, q.position});
    if (!q.enabled) continue;
    if (const auto opened = Queue::open(memory_, q.setup, {}); !opened)
      return break_device(fmt::format("queue {}: {}", &q - queues_.data(), name(opened.error())));
  }
  running_ = true;
  device_->start(driver_features_, started, epoch_);
}

void VirtioPci::stop() {
  ++epoch_;
  running_ = false;
  device_->stop();
  clear_registers();
  set_intx(false);
}

void VirtioPci::clear_registers() {
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    QueueRegisters &q = queues_[i];
    q.setup = {.size = device_->queue_sizes()[i], .descriptors = {}, .available = {}, .used = {}};
    q.position = {};
    q.enabled = false;
    q.vector = kNoVector;
    update_irqfd(q);
  }
  driver_features_ = 0;
  device_feature_select_ = driver_feature_select_ = 0;
  queue_select_ = 0;
  status_ = isr_ = 0;
  config_vector_ = kNoVector;
}

void VirtioPci::reset_device() { stop(); }

void VirtioPci::pause() {
  if (!running_) return;
  std::vector<QueuePosition> positions(queues_.size());
  device_->pause(positions);
  for (std::size_t i = 0; i < queues_.size(); ++i) queues_[i].position = positions[i];
}

void VirtioPci::resume() {
  if (running_) device_->resume();
}

VirtioPci::State VirtioPci::save() {
  State state{.function = save_function(),
              .driver_features = driver_features_,
              .device_feature_select = device_feature_select_,
              .driver_feature_select = driver_feature_select_,
              .queue_select = queue_select_,
              .config_vector = config_vector_,
              .status = status_,
              .isr = isr_,
              .config_generation = config_generation_,
              .queues = {},
              .device = device_->save()};
  for (const QueueRegisters &q : queues_) state.queues.push_back({q.setup, q.position, q.vector, q.enabled});
  return state;
}

Result<void> VirtioPci::restore(const State &state) {
  if (state.queues.size() != queues_.size())
    return fail("virtio device {}: its saved state has {} queues, this device {}", static_cast<unsigned>(device_->id()),
                state.queues.size(), queues_.size());
  stop();
  if (const auto loaded = device_->load(state.device); !loaded) return loaded;
  restore_function(state.function);
  driver_features_ = state.driver_features;
  device_feature_select_ = state.device_feature_select;
  driver_feature_select_ = state.driver_feature_select;
  queue_select_ = state.queue_select;
  config_vector_ = valid_vector(state.config_vector);
  isr_ = state.isr;
  config_generation_ = state.config_generation;
  for (std::size_t i = 0; i < queues_.size(); ++i) {
    const QueueState &from = state.queues[i];
    queues_[i].setup = from.setup;
    queues_[i].position = from.position;
    queues_[i].vector = valid_vector(from.vector);
    queues_[i].enabled = from.enabled;
    update_irqfd(queues_[i]);
  }
  status_ = state.status & ~kDriverOk;
  if ((state.status & kDriverOk) && !(state.status & kNeedsReset)) start();
  status_ |= state.status;
  return {};
}

} // namespace abyme::virtio
