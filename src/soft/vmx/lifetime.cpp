#include "soft/vmx/state.hpp"

namespace abyme::soft::vmx {

Vmx *create(Cpu &cpu) {
  auto *vmx = new Vmx;
  vmx->capabilities = make_capabilities(*cpu.profile);
  return vmx;
}

void destroy(Vmx *vmx) { delete vmx; }

void reset(Cpu &cpu) {
  const Capabilities capabilities = cpu.vmx->capabilities;
  *cpu.vmx = {};
  cpu.vmx->capabilities = capabilities;
  cpu.vmx_mode = VmxMode::Off;
  cpu.ept_enabled = cpu.ept_mode_based = false;
  cpu.eptp = 0;
  cpu.vpid = 0;
}

} // namespace abyme::soft::vmx
