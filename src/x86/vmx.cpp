#include "x86/vmx.hpp"

namespace abyme::x86 {

std::string_view name_of(ExitReason reason) {
  switch (reason) {
    using enum ExitReason;
  case ExceptionOrNmi: return "exception or NMI";
  case ExternalInterrupt: return "external interrupt";
  case TripleFault: return "triple fault";
  case Init: return "INIT signal";
  case Sipi: return "SIPI";
  case InterruptWindow: return "interrupt window";
  case NmiWindow: return "NMI window";
  case TaskSwitch: return "task switch";
  case Cpuid: return "CPUID";
  case Getsec: return "GETSEC";
  case Hlt: return "HLT";
  case Invd: return "INVD";
  case Invlpg: return "INVLPG";
  case Rdpmc: return "RDPMC";
  case Rdtsc: return "RDTSC";
  case Rsm: return "RSM";
  case Vmcall: return "VMCALL";
  case Vmclear: return "VMCLEAR";
  case Vmlaunch: return "VMLAUNCH";
  case Vmptrld: return "VMPTRLD";
  case Vmptrst: return "VMPTRST";
  case Vmread: return "VMREAD";
  case Vmresume: return "VMRESUME";
  case Vmwrite: return "VMWRITE";
  case Vmxoff: return "VMXOFF";
  case Vmxon: return "VMXON";
  case CrAccess: return "control-register access";
  case DrAccess: return "MOV DR";
  case IoInstruction: return "I/O instruction";
  case Rdmsr: return "RDMSR";
  case Wrmsr: return "WRMSR";
  case EntryFailureGuestState: return "VM-entry failure: invalid guest state";
  case EntryFailureMsrLoading: return "VM-entry failure: MSR loading";
  case Mwait: return "MWAIT";
  case MonitorTrapFlag: return "monitor trap flag";
  case Monitor: return "MONITOR";
  case Pause: return "PAUSE";
  case TprBelowThreshold: return "TPR below threshold";
  case ApicAccess: return "APIC access";
  case VirtualizedEoi: return "virtualized EOI";
  case GdtrOrIdtr: return "access to GDTR or IDTR";
  case LdtrOrTr: return "access to LDTR or TR";
  case EptViolation: return "EPT violation";
  case EptMisconfiguration: return "EPT misconfiguration";
  case Invept: return "INVEPT";
  case Rdtscp: return "RDTSCP";
  case PreemptionTimer: return "VMX-preemption timer expired";
  case Invvpid: return "INVVPID";
  case Wbinvd: return "WBINVD";
  case Xsetbv: return "XSETBV";
  case ApicWrite: return "APIC write";
  case Rdrand: return "RDRAND";
  case Invpcid: return "INVPCID";
  case Vmfunc: return "VMFUNC";
  case Rdseed: return "RDSEED";
  case PmlFull: return "page-modification log full";
  case Xsaves: return "XSAVES";
  case Xrstors: return "XRSTORS";
  }
  return "unknown exit reason";
}

} // namespace abyme::x86
