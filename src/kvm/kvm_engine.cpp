#include "kvm/kvm_engine.hpp"
#include "kvm/cpuid.hpp"
#include "kvm/kvm_vcpu.hpp"

namespace abyme::kvm {
namespace {

class KvmEngine final : public Engine {
public:
  explicit KvmEngine(System system) : system_(std::move(system)) {}

  [[nodiscard]] Result<void> build(const EngineConfig &config) {
    if (auto checked = check(config); !checked) return checked;
    auto vm = Vm::create(system_, config.memory);
    if (!vm) return std::unexpected(vm.error());
    vm_ = std::move(*vm);
    for (u32 i = 0; i < config.cpus; ++i) {
      auto vcpu = KvmVcpu::create(system_, *vm_, config, i);
      if (!vcpu) return std::unexpected(vcpu.error());
      vcpus_.push_back(std::move(*vcpu));
    }
    return {};
  }

  [[nodiscard]] std::string_view name() const override { return "kvm"; }
  [[nodiscard]] Vcpu &vcpu(unsigned index) override { return *vcpus_.at(index); }
  void stop() override {
    for (auto &vcpu : vcpus_) vcpu->request_stop();
  }
  void message(u64 address, u32 data) override { vm_->message(address, data); }
  void external_interrupt_changed() override { vcpus_.front()->kick(); }
  [[nodiscard]] bool attach_doorbell(Gpa at, unsigned size, int event_fd) override {
    return vm_->attach_doorbell(at, size, event_fd, true);
  }
  void detach_doorbell(Gpa at, unsigned size, int event_fd) override {
    (void)vm_->attach_doorbell(at, size, event_fd, false);
  }
  [[nodiscard]] bool attach_irqfd(int event_fd, u64 address, u32 data) override {
    return vm_->attach_irqfd(event_fd, address, data);
  }
  void detach_irqfd(int event_fd) override { vm_->detach_irqfd(event_fd); }

private:
  [[nodiscard]] Result<void> check(const EngineConfig &config) const {
    const int most = std::max(1, system_.capability(KVM_CAP_MAX_VCPUS));
    if (config.cpus == 0 || config.cpus > static_cast<unsigned>(most))
      return fail("KVM here runs 1 to {} vCPUs, not {}", most, config.cpus);
    const auto host = system_.features();
    if (!host) return std::unexpected(host.error());
    if (const auto missing = not_offered(config.profile, *host); missing.any())
      return fail("CPU model '{}' has {}, which KVM on this host does not offer", config.profile.model,
                  x86::join_names(missing));
    return {};
  }

  System system_;
  std::unique_ptr<Vm> vm_;
  std::vector<std::unique_ptr<KvmVcpu>> vcpus_;
};

} // namespace

Result<std::unique_ptr<Engine>> make_kvm_engine(const EngineConfig &config) {
  auto system = System::open();
  if (!system) return std::unexpected(system.error());
  auto engine = std::make_unique<KvmEngine>(std::move(*system));
  if (auto built = engine->build(config); !built) return std::unexpected(built.error());
  return engine;
}

} // namespace abyme::kvm
