#include "soft/hostexec/manual.hpp"

namespace abyme::soft::hostexec {

Manual manual_of(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
  case ZYDIS_MNEMONIC_VGATHERDPD:
  case ZYDIS_MNEMONIC_VGATHERDPS:
  case ZYDIS_MNEMONIC_VGATHERQPD:
  case ZYDIS_MNEMONIC_VGATHERQPS:
  case ZYDIS_MNEMONIC_VPGATHERDD:
  case ZYDIS_MNEMONIC_VPGATHERDQ:
  case ZYDIS_MNEMONIC_VPGATHERQD:
  case ZYDIS_MNEMONIC_VPGATHERQQ: return gather;
  case ZYDIS_MNEMONIC_VMASKMOVPS:
  case ZYDIS_MNEMONIC_VMASKMOVPD:
  case ZYDIS_MNEMONIC_VPMASKMOVD:
  case ZYDIS_MNEMONIC_VPMASKMOVQ: return masked_load; // masked_store where memory is the destination
  case ZYDIS_MNEMONIC_MASKMOVDQU:
  case ZYDIS_MNEMONIC_VMASKMOVDQU: return masked_bytes;
  case ZYDIS_MNEMONIC_MASKMOVQ: return masked_bytes_mmx;
  case ZYDIS_MNEMONIC_VZEROUPPER: return vzeroupper;
  case ZYDIS_MNEMONIC_VZEROALL: return vzeroall;
  case ZYDIS_MNEMONIC_LDMXCSR:
  case ZYDIS_MNEMONIC_VLDMXCSR: return ldmxcsr;
  case ZYDIS_MNEMONIC_STMXCSR:
  case ZYDIS_MNEMONIC_VSTMXCSR: return stmxcsr;
  case ZYDIS_MNEMONIC_RDRAND:
  case ZYDIS_MNEMONIC_RDSEED: return random_number;
  case ZYDIS_MNEMONIC_CLFLUSH:
  case ZYDIS_MNEMONIC_CLFLUSHOPT:
  case ZYDIS_MNEMONIC_CLWB: return flush_line;
  case ZYDIS_MNEMONIC_FWAIT: return fwait;
  case ZYDIS_MNEMONIC_FNINIT: return fninit;
  case ZYDIS_MNEMONIC_FNCLEX: return fnclex;
  case ZYDIS_MNEMONIC_FLDCW: return fldcw;
  case ZYDIS_MNEMONIC_FNSTENV: return fnstenv;
  case ZYDIS_MNEMONIC_FLDENV: return fldenv;
  case ZYDIS_MNEMONIC_FNSAVE: return fnsave;
  case ZYDIS_MNEMONIC_FRSTOR: return frstor;
  case ZYDIS_MNEMONIC_FXSAVE:
  case ZYDIS_MNEMONIC_FXSAVE64: return fxsave;
  case ZYDIS_MNEMONIC_FXRSTOR:
  case ZYDIS_MNEMONIC_FXRSTOR64: return fxrstor;
  case ZYDIS_MNEMONIC_XSAVE:
  case ZYDIS_MNEMONIC_XSAVE64: return xsave;
  case ZYDIS_MNEMONIC_XSAVEOPT:
  case ZYDIS_MNEMONIC_XSAVEOPT64: return xsaveopt;
  case ZYDIS_MNEMONIC_XSAVEC:
  case ZYDIS_MNEMONIC_XSAVEC64: return xsavec;
  case ZYDIS_MNEMONIC_XSAVES:
  case ZYDIS_MNEMONIC_XSAVES64: return xsaves;
  case ZYDIS_MNEMONIC_XRSTOR:
  case ZYDIS_MNEMONIC_XRSTOR64: return xrstor;
  case ZYDIS_MNEMONIC_XRSTORS:
  case ZYDIS_MNEMONIC_XRSTORS64: return xrstors;
  case ZYDIS_MNEMONIC_AAA: return aaa;
  case ZYDIS_MNEMONIC_AAS: return aas;
  case ZYDIS_MNEMONIC_AAM: return aam;
  case ZYDIS_MNEMONIC_AAD: return aad;
  case ZYDIS_MNEMONIC_DAA: return daa;
  case ZYDIS_MNEMONIC_DAS: return das;
  default: return nullptr;
  }
}

} // namespace abyme::soft::hostexec
