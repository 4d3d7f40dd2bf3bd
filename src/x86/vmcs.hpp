#pragma once
#include "x86/cpu_profile.hpp"
#include <array>

// The fields of a VMCS (SDM 3D appendix B) as data.
namespace abyme::x86 {

// One row a field: name, encoding, the VMX feature without which the field does not exist (kCount: it always does).
#define ABYME_VMCS_FIELDS(ROW)                                                                                         \
  ROW(Vpid, 0x0000, vpid)                                                                                              \
  ROW(PostedInterruptVector, 0x0002, posted_interrupts)                                                                \
  ROW(EptpIndex, 0x0004, ve)                                                                                           \
  ROW(GuestEsSelector, 0x0800, kCount)                                                                                 \
  ROW(GuestCsSelector, 0x0802, kCount)                                                                                 \
  ROW(GuestSsSelector, 0x0804, kCount)                                                                                 \
  ROW(GuestDsSelector, 0x0806, kCount)                                                                                 \
  ROW(GuestFsSelector, 0x0808, kCount)                                                                                 \
  ROW(GuestGsSelector, 0x080A, kCount)                                                                                 \
  ROW(GuestLdtrSelector, 0x080C, kCount)                                                                               \
  ROW(GuestTrSelector, 0x080E, kCount)                                                                                 \
  ROW(GuestInterruptStatus, 0x0810, virtual_interrupt_delivery)                                                        \
  ROW(PmlIndex, 0x0812, pml)                                                                                           \
  ROW(HostEsSelector, 0x0C00, kCount)                                                                                  \
  ROW(HostCsSelector, 0x0C02, kCount)                                                                                  \
  ROW(HostSsSelector, 0x0C04, kCount)                                                                                  \
  ROW(HostDsSelector, 0x0C06, kCount)                                                                                  \
  ROW(HostFsSelector, 0x0C08, kCount)                                                                                  \
  ROW(HostGsSelector, 0x0C0A, kCount)                                                                                  \
  ROW(HostTrSelector, 0x0C0C, kCount)                                                                                  \
  ROW(IoBitmapA, 0x2000, io_bitmaps)                                                                                   \
  ROW(IoBitmapB, 0x2002, io_bitmaps)                                                                                   \
  ROW(MsrBitmap, 0x2004, msr_bitmaps)                                                                                  \
  ROW(ExitMsrStoreAddress, 0x2006, kCount)                                                                             \
  ROW(ExitMsrLoadAddress, 0x2008, kCount)                                                                              \
  ROW(EntryMsrLoadAddress, 0x200A, kCount)                                                                             \
  ROW(ExecutiveVmcsPointer, 0x200C, kCount)                                                                            \
  ROW(PmlAddress, 0x200E, pml)                                                                                         \
  ROW(TscOffset, 0x2010, kCount)                                                                                       \
  ROW(VirtualApicAddress, 0x2012, tpr_shadow)                                                                          \
  ROW(ApicAccessAddress, 0x2014, virtualize_apic_accesses)                                                             \
  ROW(PostedInterruptDescriptor, 0x2016, posted_interrupts)                                                            \
  ROW(VmFunctionControls, 0x2018, vmfunc)                                                                              \
  ROW(EptPointer, 0x201A, ept)                                                                                         \
  ROW(EoiExitBitmap0, 0x201C, virtual_interrupt_delivery)                                                              \
  ROW(EoiExitBitmap1, 0x201E, virtual_interrupt_delivery)                                                              \
  ROW(EoiExitBitmap2, 0x2020, virtual_interrupt_delivery)                                                              \
  ROW(EoiExitBitmap3, 0x2022, virtual_interrupt_delivery)                                                              \
  ROW(EptpListAddress, 0x2024, vmfunc)                                                                                 \
  ROW(VmreadBitmap, 0x2026, vmcs_shadowing)                                                                            \
  ROW(VmwriteBitmap, 0x2028, vmcs_shadowing)                                                                           \
  ROW(VirtualizationExceptionAddress, 0x202A, ve)                                                                      \
  ROW(XssExitingBitmap, 0x202C, xsaves)                                                                                \
  ROW(TscMultiplier, 0x2032, tsc_scaling)                                                                              \
  ROW(GuestPhysicalAddress, 0x2400, ept)                                                                               \
  ROW(VmcsLinkPointer, 0x2800, kCount)                                                                                 \
  ROW(GuestDebugctl, 0x2802, kCount)                                                                                   \
  ROW(GuestPat, 0x2804, kCount)                                                                                        \
  ROW(GuestEfer, 0x2806, kCount)                                                                                       \
  ROW(GuestPdpte0, 0x280A, ept)                                                                                        \
  ROW(GuestPdpte1, 0x280C, ept)                                                                                        \
  ROW(GuestPdpte2, 0x280E, ept)                                                                                        \
  ROW(GuestPdpte3, 0x2810, ept)                                                                                        \
  ROW(HostPat, 0x2C00, kCount)                                                                                         \
  ROW(HostEfer, 0x2C02, kCount)                                                                                        \
  ROW(PinControls, 0x4000, kCount)                                                                                     \
  ROW(PrimaryControls, 0x4002, kCount)                                                                                 \
  ROW(ExceptionBitmap, 0x4004, kCount)                                                                                 \
  ROW(PageFaultErrorMask, 0x4006, kCount)                                                                              \
  ROW(PageFaultErrorMatch, 0x4008, kCount)                                                                             \
  ROW(Cr3TargetCount, 0x400A, kCount)                                                                                  \
  ROW(ExitControls, 0x400C, kCount)                                                                                    \
  ROW(ExitMsrStoreCount, 0x400E, kCount)                                                                               \
  ROW(ExitMsrLoadCount, 0x4010, kCount)                                                                                \
  ROW(EntryControls, 0x4012, kCount)                                                                                   \
  ROW(EntryMsrLoadCount, 0x4014, kCount)                                                                               \
  ROW(EntryInterruption, 0x4016, kCount)                                                                               \
  ROW(EntryErrorCode, 0x4018, kCount)                                                                                  \
  ROW(EntryInstructionLength, 0x401A, kCount)                                                                          \
  ROW(TprThreshold, 0x401C, tpr_shadow)                                                                                \
  ROW(SecondaryControls, 0x401E, kCount)                                                                               \
  ROW(PleGap, 0x4020, pause_loop)                                                                                      \
  ROW(PleWindow, 0x4022, pause_loop)                                                                                   \
  ROW(InstructionError, 0x4400, kCount)                                                                                \
  ROW(ExitReason, 0x4402, kCount)                                                                                      \
  ROW(ExitInterruption, 0x4404, kCount)                                                                                \
  ROW(ExitErrorCode, 0x4406, kCount)                                                                                   \
  ROW(IdtVectoring, 0x4408, kCount)                                                                                    \
  ROW(IdtVectoringErrorCode, 0x440A, kCount)                                                                           \
  ROW(ExitInstructionLength, 0x440C, kCount)                                                                           \
  ROW(ExitInstructionInformation, 0x440E, kCount)                                                                      \
  ROW(GuestEsLimit, 0x4800, kCount)                                                                                    \
  ROW(GuestCsLimit, 0x4802, kCount)                                                                                    \
  ROW(GuestSsLimit, 0x4804, kCount)                                                                                    \
  ROW(GuestDsLimit, 0x4806, kCount)                                                                                    \
  ROW(GuestFsLimit, 0x4808, kCount)                                                                                    \
  ROW(GuestGsLimit, 0x480A, kCount)                                                                                    \
  ROW(GuestLdtrLimit, 0x480C, kCount)                                                                                  \
  ROW(GuestTrLimit, 0x480E, kCount)                                                                                    \
  ROW(GuestGdtrLimit, 0x4810, kCount)                                                                                  \
  ROW(GuestIdtrLimit, 0x4812, kCount)                                                                                  \
  ROW(GuestEsRights, 0x4814, kCount)                                                                                   \
  ROW(GuestCsRights, 0x4816, kCount)                                                                                   \
  ROW(GuestSsRights, 0x4818, kCount)                                                                                   \
  ROW(GuestDsRights, 0x481A, kCount)                                                                                   \
  ROW(GuestFsRights, 0x481C, kCount)                                                                                   \
  ROW(GuestGsRights, 0x481E, kCount)                                                                                   \
  ROW(GuestLdtrRights, 0x4820, kCount)                                                                                 \
  ROW(GuestTrRights, 0x4822, kCount)                                                                                   \
  ROW(GuestInterruptibility, 0x4824, kCount)                                                                           \
  ROW(GuestActivity, 0x4826, kCount)                                                                                   \
  ROW(GuestSmbase, 0x4828, kCount)                                                                                     \
  ROW(GuestSysenterCs, 0x482A, kCount)                                                                                 \
  ROW(PreemptionTimer, 0x482E, preemption_timer)                                                                       \
  ROW(HostSysenterCs, 0x4C00, kCount)                                                                                  \
  ROW(Cr0Mask, 0x6000, kCount)                                                                                         \
  ROW(Cr4Mask, 0x6002, kCount)                                                                                         \
  ROW(Cr0ReadShadow, 0x6004, kCount)                                                                                   \
  ROW(Cr4ReadShadow, 0x6006, kCount)                                                                                   \
  ROW(Cr3Target0, 0x6008, kCount)                                                                                      \
  ROW(Cr3Target1, 0x600A, kCount)                                                                                      \
  ROW(Cr3Target2, 0x600C, kCount)                                                                                      \
  ROW(Cr3Target3, 0x600E, kCount)                                                                                      \
  ROW(ExitQualification, 0x6400, kCount)                                                                               \
  ROW(IoRcx, 0x6402, kCount)                                                                                           \
  ROW(IoRsi, 0x6404, kCount)                                                                                           \
  ROW(IoRdi, 0x6406, kCount)                                                                                           \
  ROW(IoRip, 0x6408, kCount)                                                                                           \
  ROW(GuestLinearAddress, 0x640A, kCount)                                                                              \
  ROW(GuestCr0, 0x6800, kCount)                                                                                        \
  ROW(GuestCr3, 0x6802, kCount)                                                                                        \
  ROW(GuestCr4, 0x6804, kCount)                                                                                        \
  ROW(GuestEsBase, 0x6806, kCount)                                                                                     \
  ROW(GuestCsBase, 0x6808, kCount)                                                                                     \
  ROW(GuestSsBase, 0x680A, kCount)                                                                                     \
  ROW(GuestDsBase, 0x680C, kCount)                                                                                     \
  ROW(GuestFsBase, 0x680E, kCount)                                                                                     \
  ROW(GuestGsBase, 0x6810, kCount)                                                                                     \
  ROW(GuestLdtrBase, 0x6812, kCount)                                                                                   \
  ROW(GuestTrBase, 0x6814, kCount)                                                                                     \
  ROW(GuestGdtrBase, 0x6816, kCount)                                                                                   \
  ROW(GuestIdtrBase, 0x6818, kCount)                                                                                   \
  ROW(GuestDr7, 0x681A, kCount)                                                                                        \
  ROW(GuestRsp, 0x681C, kCount)                                                                                        \
  ROW(GuestRip, 0x681E, kCount)                                                                                        \
  ROW(GuestRflags, 0x6820, kCount)                                                                                     \
  ROW(GuestPendingDebug, 0x6822, kCount)                                                                               \
  ROW(GuestSysenterEsp, 0x6824, kCount)                                                                                \
  ROW(GuestSysenterEip, 0x6826, kCount)                                                                                \
  ROW(HostCr0, 0x6C00, kCount)                                                                                         \
  ROW(HostCr3, 0x6C02, kCount)                                                                                         \
  ROW(HostCr4, 0x6C04, kCount)                                                                                         \
  ROW(HostFsBase, 0x6C06, kCount)                                                                                      \
  ROW(HostGsBase, 0x6C08, kCount)                                                                                      \
  ROW(HostTrBase, 0x6C0A, kCount)                                                                                      \
  ROW(HostGdtrBase, 0x6C0C, kCount)                                                                                    \
  ROW(HostIdtrBase, 0x6C0E, kCount)                                                                                    \
  ROW(HostSysenterEsp, 0x6C10, kCount)                                                                                 \
  ROW(HostSysenterEip, 0x6C12, kCount)                                                                                 \
  ROW(HostRsp, 0x6C14, kCount)                                                                                         \
  ROW(HostRip, 0x6C16, kCount)

// Number of a field, dense, in the order of the encodings.
enum class VmcsField : u8 {
#define ABYME_ROW(name, encoding, feature) name,
  ABYME_VMCS_FIELDS(ABYME_ROW)
#undef ABYME_ROW
      kCount
};
constexpr unsigned kVmcsFields = static_cast<unsigned>(VmcsField::kCount);

// Bits 14:13 and 11:10 of an encoding.
enum class VmcsWidth : u8 { Word = 0, Quad = 1, Double = 2, Natural = 3 };
enum class VmcsFieldType : u8 { Control = 0, ReadOnly = 1, Guest = 2, Host = 3 };

struct VmcsFieldInfo {
  std::string_view name;
  u16 encoding;     // of the full field (access type 0)
  VmxFeature needs; // kCount: nothing

  [[nodiscard]] constexpr VmcsWidth width() const { return static_cast<VmcsWidth>(encoding >> 13 & 3); }
  [[nodiscard]] constexpr VmcsFieldType type() const { return static_cast<VmcsFieldType>(encoding >> 10 & 3); }
  // The bits that the field holds.
  [[nodiscard]] constexpr u64 mask() const {
    return width() == VmcsWidth::Word ? 0xFFFF : width() == VmcsWidth::Double ? 0xFFFF'FFFF : ~0ull;
  }
};

constexpr std::array<VmcsFieldInfo, kVmcsFields> kVmcsFieldTable{{
#define ABYME_ROW(name, encoding, feature) {#name, encoding, VmxFeature::feature},
    ABYME_VMCS_FIELDS(ABYME_ROW)
#undef ABYME_ROW
}};

[[nodiscard]] constexpr const VmcsFieldInfo &describe(VmcsField f) { return kVmcsFieldTable[static_cast<unsigned>(f)]; }

namespace detail {
// Width, type and a 6-bit index make a 10-bit key; fields with a higher index are none of ours.
[[nodiscard]] constexpr unsigned vmcs_key(u64 encoding) {
  return (encoding >> 13 & 3) << 8 | (encoding >> 10 & 3) << 6 | (encoding >> 1 & 0x3F);
}
constexpr auto kFieldByKey = [] {
  std::array<VmcsField, 1024> table{};
  table.fill(VmcsField::kCount);
  for (unsigned i = 0; i < kVmcsFields; i++) table[vmcs_key(kVmcsFieldTable[i].encoding)] = static_cast<VmcsField>(i);
  return table;
}();
} // namespace detail

// The field of an encoding, with the access type (bit 0) left out of account; VmcsField::kCount for none. Bit 12, bits
// 31:15 and everything above must be zero, as must an index that no field has.
[[nodiscard]] constexpr VmcsField find_vmcs_field(u64 encoding) {
  constexpr u64 kKeyBits = 0x6000 | 0x0C00 | 0x007E | 1;
  return encoding & ~kKeyBits ? VmcsField::kCount : detail::kFieldByKey[detail::vmcs_key(encoding)];
}
[[nodiscard]] constexpr bool is_high_access(u64 encoding) { return encoding & 1; }
// Access type "high" exists for 64-bit fields only.
[[nodiscard]] constexpr bool access_type_valid(VmcsField f, u64 encoding) {
  return !is_high_access(encoding) || describe(f).width() == VmcsWidth::Quad;
}

} // namespace abyme::x86
