// One row a mnemonic: how its operands are found and which handler it gets. System instructions and those that run on the host's own
// units have their tables in system/ and hostexec/.
#include "soft/decode/table.hpp"
#include "soft/interp/alu.hpp"
#include "soft/interp/handlers.hpp"
#include "soft/system/system.hpp"
#include "soft/vmx/vmx.hpp"
#include <algorithm>
#include <array>

namespace abyme::soft {
namespace {

using T = Translating;
using Row = bool (*)(const T &);

bool slow(const T &t, SlowHandler handler, bool ends = false) {
  t.op.handler = run_slow;
  t.op.slow = handler;
  t.extent.ends = ends;
  return true;
}
bool fast(const T &t, Handler handler) {
  t.op.handler = handler;
  return true;
}
bool fast_or_slow(const T &t, Handler handler, SlowHandler otherwise, bool ends) {
  if (!handler) return slow(t, otherwise, ends);
  t.extent.ends = ends;
  return fast(t, handler);
}

bool is_register(const ZydisDecodedOperand &o) { return o.type == ZYDIS_OPERAND_TYPE_REGISTER; }
bool is_memory(const ZydisDecodedOperand &o) { return o.type == ZYDIS_OPERAND_TYPE_MEMORY; }
bool is_immediate(const ZydisDecodedOperand &o) { return o.type == ZYDIS_OPERAND_TYPE_IMMEDIATE; }
ZydisRegisterClass class_of(const ZydisDecodedOperand &o) { return is_register(o) ? ZydisRegisterGetClass(o.reg.value) : ZYDIS_REGCLASS_INVALID; }

// The first two operands, as a form; registers go where the form's handlers look for them.
Form form_of(const T &t) {
  const auto &a = t.operands[0], &b = t.operands[1];
  if (is_memory(a)) {
    if (is_register(b)) t.op.reg = gpr_slot(b.reg.value);
    return is_register(b) ? Form::MR : Form::MI;
  }
  if (is_memory(b)) {
    t.op.reg = gpr_slot(a.reg.value);
    return Form::RM;
  }
  t.op.rm = gpr_slot(a.reg.value);
  if (is_immediate(b)) return Form::RI;
  t.op.reg = gpr_slot(b.reg.value);
  return Form::RR;
}

template <Alu A> bool alu(const T &t) {
  const Form form = form_of(t);
  return fast(t, alu_handler(t.cpu, t.op, A, form));
}

bool mov(const T &t) {
  const auto to = class_of(t.operands[0]), from = class_of(t.operands[1]);
  const auto &z = t.instruction;
  if (to == ZYDIS_REGCLASS_SEGMENT) return slow(t, system::mov_to_segment, true);
  if (from == ZYDIS_REGCLASS_SEGMENT) return slow(t, system::mov_from_segment);
  if (to == ZYDIS_REGCLASS_CONTROL) return slow(t, system::mov_to_cr, true);
  if (from == ZYDIS_REGCLASS_CONTROL) return slow(t, system::mov_from_cr, true);
  if (to == ZYDIS_REGCLASS_DEBUG) return slow(t, system::mov_to_dr, true);
  if (from == ZYDIS_REGCLASS_DEBUG) return slow(t, system::mov_from_dr, true);
  if (z.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && z.opcode >= 0xA0 && z.opcode <= 0xA3) {
    const bool store = is_memory(t.operands[0]);
    const u64 mask = t.op.address_size == 8 ? ~0ull : t.op.address_size == 4 ? 0xFFFFFFFFull : 0xFFFFull;
    t.op.imm = static_cast<i64>(static_cast<u64>(t.operands[store ? 0 : 1].mem.disp.value) & mask);
    return slow(t, mov_offset_handler(t.op.size, store));
  }
  const Form form = form_of(t);
  return fast(t, mov_handler(t.cpu, t.op, form));
}

template <bool Signed> bool extend(const T &t) {
  return fast(t, extend_handler(t.cpu, t.op, t.operands[1].size / 8, Signed));
}
bool lea(const T &t) { return fast(t, lea_handler(t.cpu, t.op)); }
bool xchg(const T &t) {
  (void)form_of(t);
  return fast(t, xchg_handler(t.op));
}
bool cmov(const T &t) { return fast(t, cmov_handler(t.op)); }
bool setcc(const T &t) {
  t.op.size = 1;
  return fast(t, setcc_handler(t.op));
}
bool bswap_row(const T &t) { return fast(t, bswap_handler(t.op)); }
template <u8 Size> bool widen_row(const T &t) {
  t.op.size = Size;
  return fast(t, widen_handler(t.op));
}
template <u8 Size> bool sign_to_dx_row(const T &t) {
  t.op.size = Size;
  return fast(t, sign_to_dx_handler(t.op));
}
bool salc_row(const T &t) { return slow(t, salc_handler()); }
bool xlat_row(const T &t) {
  for (unsigned i = 0; i < t.instruction.operand_count; i++)
    if (is_memory(t.operands[i])) t.op.segment = segment_for(t.cpu, t.operands[i].mem.segment);
  return slow(t, xlat_handler());
}
bool nop_row(const T &t) { return fast(t, nop_handler()); }

template <Unary U> bool unary(const T &t) {
  if (is_register(t.operands[0])) t.op.rm = gpr_slot(t.operands[0].reg.value);
  return fast(t, unary_handler(t.cpu, t.op, U));
}
template <FlagChange C> bool flag_row(const T &t) { return fast(t, flag_handler(C)); }

template <bool On> bool access_flag_row(const T &t) { return slow(t, access_flag_handler(On)); }

template <Shift S> bool shift(const T &t) { return fast(t, shift_handler(t.cpu, t.op, S, is_register(t.operands[1]))); }
template <bool Left> bool double_shift_row(const T &t) { return slow(t, double_shift_handler(t.op, Left, is_register(t.operands[2]))); }

bool imul(const T &t) {
  const unsigned explicit_operands = t.instruction.operand_count_visible;
  if (explicit_operands == 1) return slow(t, wide_handler(t.op, Wide::Imul));
  return fast(t, explicit_operands == 2 ? imul2_handler(t.cpu, t.op) : imul3_handler(t.cpu, t.op));
}
template <Wide W> bool wide(const T &t) { return slow(t, wide_handler(t.op, W)); }

template <BitTest B> bool bit_test(const T &t) { return fast(t, bit_test_handler(t.op, B, is_immediate(t.operands[1]))); }
template <bool Reverse> bool bit_scan(const T &t) { return fast(t, bit_scan_handler(t.cpu, t.op, Reverse)); }
bool xadd_row(const T &t) { return slow(t, xadd_handler(t.op)); }
bool cmpxchg_row(const T &t) { return slow(t, cmpxchg_handler(t.op)); }
template <u8 Half> bool cmpxchg_wide_row(const T &t) {
  t.op.size = Half;
  return slow(t, cmpxchg_wide_handler(t.op));
}

bool is_far(const T &t) { return t.instruction.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR; }
bool is_direct(const T &t) { return is_immediate(t.operands[0]); }

void set_target(const T &t) { t.op.imm = t.operands[0].imm.value.s + t.op.offset + t.op.length; }

bool jcc(const T &t) {
  set_target(t);
  t.op.condition = t.instruction.opcode & 15;
  Handler h = jcc_handler(t.cpu, t.op);
  t.extent.links = h != nullptr;
  return fast_or_slow(t, h, jcc_slow_handler(t.op), true);
}
void set_far_pointer(const T &t) {
  if (t.operands[0].type != ZYDIS_OPERAND_TYPE_POINTER) return;
  t.op.imm = t.operands[0].ptr.offset;
  t.op.disp = t.operands[0].ptr.segment;
}
bool jmp(const T &t) {
  if (is_far(t)) {
    set_far_pointer(t);
    return slow(t, system::jump_far, true);
  }
  if (!is_direct(t)) return fast_or_slow(t, jmp_indirect_handler(t.cpu, t.op), jmp_indirect_slow_handler(), true);
  set_target(t);
  Handler h = jmp_handler(t.cpu, t.op);
  t.extent.links = h != nullptr;
  return fast_or_slow(t, h, jmp_slow_handler(), true);
}
bool call(const T &t) {
  if (is_far(t)) {
    set_far_pointer(t);
    return slow(t, system::call_far, true);
  }
  if (!is_direct(t)) return fast_or_slow(t, call_indirect_handler(t.cpu, t.op), call_indirect_slow_handler(), true);
  set_target(t);
  t.op.flags |= kOpStackSegment;
  Handler h = call_handler(t.cpu, t.op);
  t.extent.links = h != nullptr;
  return fast_or_slow(t, h, call_slow_handler(), true);
}
bool ret(const T &t) {
  t.op.imm &= 0xFFFF;
  if (is_far(t)) return slow(t, system::return_far, true);
  t.op.flags |= kOpStackSegment;
  return fast_or_slow(t, ret_handler(t.cpu, t.op), ret_slow_handler(), true);
}
template <Loop L> bool loop_row(const T &t) {
  set_target(t);
  return slow(t, loop_handler(L), true);
}

bool push_row(const T &t) {
  const auto &o = t.operands[0];
  if (class_of(o) == ZYDIS_REGCLASS_SEGMENT) {
    t.op.reg_index = static_cast<u8>(ZydisRegisterGetId(o.reg.value));
    return slow(t, system::push_segment);
  }
  const Form form = is_register(o) ? Form::RR : is_memory(o) ? Form::MR : Form::RI;
  if (is_register(o)) t.op.rm = gpr_slot(o.reg.value);
  if (!is_memory(o)) t.op.flags |= kOpStackSegment;
  return fast_or_slow(t, push_handler(t.cpu, t.op, form), push_slow_handler(form), false);
}
bool pop_row(const T &t) {
  const auto &o = t.operands[0];
  if (class_of(o) == ZYDIS_REGCLASS_SEGMENT) {
    t.op.reg_index = static_cast<u8>(ZydisRegisterGetId(o.reg.value));
    return slow(t, system::pop_segment, true);
  }
  if (is_register(o)) {
    t.op.rm = gpr_slot(o.reg.value);
    t.op.flags |= kOpStackSegment;
  }
  return fast_or_slow(t, pop_handler(t.cpu, t.op), pop_slow_handler(t.op), false);
}
bool pusha_row(const T &t) { return slow(t, pusha_handler()); }
bool popa_row(const T &t) { return slow(t, popa_handler()); }
bool enter_row(const T &t) {
  t.op.reg_index = static_cast<u8>(t.operands[1].imm.value.u);
  return slow(t, enter_handler());
}
bool leave_row(const T &t) {
  t.op.flags |= kOpStackSegment;
  return fast_or_slow(t, leave_handler(t.cpu, t.op), leave_slow_handler(), false);
}

// The source of a string instruction lies at RSI, in DS or the segment of a prefix.
void set_source_segment(const T &t) {
  for (unsigned i = 0; i < t.instruction.operand_count; i++) {
    const auto &o = t.operands[i];
    const bool source = is_memory(o) && gpr_slot(o.mem.base) == x86::RSI * 8;
    if (source) t.op.segment = segment_for(t.cpu, o.mem.segment);
  }
}
template <StringOp S> bool string_row(const T &t) {
  if (t.instruction.meta.category != ZYDIS_CATEGORY_STRINGOP) return false; // MOVSD and CMPSD of SSE2
  set_source_segment(t);
  return slow(t, string_handler(S));
}
void set_port(const T &t, const ZydisDecodedOperand &port) { t.op.imm = is_immediate(port) ? static_cast<i64>(port.imm.value.u & 0xFF) : -1; }
bool in_row(const T &t) {
  set_port(t, t.operands[1]);
  t.op.size = static_cast<u8>(t.operands[0].size / 8);
  return slow(t, in_handler(), true);
}
bool out_row(const T &t) {
  set_port(t, t.operands[0]);
  t.op.size = static_cast<u8>(t.operands[1].size / 8);
  return slow(t, out_handler(), true);
}
template <u8 Size> bool ins_row(const T &t) {
  t.op.size = Size;
  return slow(t, ins_handler(), true);
}
template <u8 Size> bool outs_row(const T &t) {
  t.op.size = Size;
  set_source_segment(t);
  return slow(t, outs_handler(), true);
}
template <SlowHandler H> bool vmx_row(const T &t) { return slow(t, H, true); }

#define M(NAME) ZYDIS_MNEMONIC_##NAME
struct Entry {
  ZydisMnemonic mnemonic;
  Row row;
};
constexpr Entry kEntries[] = {
    {M(ADD), alu<Alu::Add>}, {M(OR), alu<Alu::Or>}, {M(ADC), alu<Alu::Adc>}, {M(SBB), alu<Alu::Sbb>}, {M(AND), alu<Alu::And>},
    {M(SUB), alu<Alu::Sub>}, {M(XOR), alu<Alu::Xor>}, {M(CMP), alu<Alu::Cmp>}, {M(TEST), alu<Alu::Test>},
    {M(MOV), mov}, {M(MOVZX), extend<false>}, {M(MOVSX), extend<true>}, {M(MOVSXD), extend<true>}, {M(LEA), lea}, {M(XCHG), xchg},
    {M(BSWAP), bswap_row}, {M(XLAT), xlat_row}, {M(SALC), salc_row}, {M(NOP), nop_row},
    {M(PREFETCH), nop_row}, {M(PREFETCHNTA), nop_row}, {M(PREFETCHT0), nop_row}, {M(PREFETCHT1), nop_row}, {M(PREFETCHT2), nop_row},
    {M(PREFETCHW), nop_row}, {M(PREFETCHWT1), nop_row},
    {M(CBW), widen_row<2>}, {M(CWDE), widen_row<4>}, {M(CDQE), widen_row<8>},
    {M(CWD), sign_to_dx_row<2>}, {M(CDQ), sign_to_dx_row<4>}, {M(CQO), sign_to_dx_row<8>},
    {M(CMOVO), cmov}, {M(CMOVNO), cmov}, {M(CMOVB), cmov}, {M(CMOVNB), cmov}, {M(CMOVZ), cmov}, {M(CMOVNZ), cmov}, {M(CMOVBE), cmov},
    {M(CMOVNBE), cmov}, {M(CMOVS), cmov}, {M(CMOVNS), cmov}, {M(CMOVP), cmov}, {M(CMOVNP), cmov}, {M(CMOVL), cmov}, {M(CMOVNL), cmov},
    {M(CMOVLE), cmov}, {M(CMOVNLE), cmov},
    {M(SETO), setcc}, {M(SETNO), setcc}, {M(SETB), setcc}, {M(SETNB), setcc}, {M(SETZ), setcc}, {M(SETNZ), setcc}, {M(SETBE), setcc},
    {M(SETNBE), setcc}, {M(SETS), setcc}, {M(SETNS), setcc}, {M(SETP), setcc}, {M(SETNP), setcc}, {M(SETL), setcc}, {M(SETNL), setcc},
    {M(SETLE), setcc}, {M(SETNLE), setcc},
    {M(INC), unary<Unary::Inc>}, {M(DEC), unary<Unary::Dec>}, {M(NEG), unary<Unary::Neg>}, {M(NOT), unary<Unary::Not>},
    {M(CLC), flag_row<FlagChange::Clc>}, {M(STC), flag_row<FlagChange::Stc>}, {M(CMC), flag_row<FlagChange::Cmc>},
    {M(CLD), flag_row<FlagChange::Cld>}, {M(STD), flag_row<FlagChange::Std>}, {M(LAHF), flag_row<FlagChange::Lahf>},
    {M(SAHF), flag_row<FlagChange::Sahf>},
    {M(CLAC), access_flag_row<false>}, {M(STAC), access_flag_row<true>},
    {M(ROL), shift<Shift::Rol>}, {M(ROR), shift<Shift::Ror>}, {M(RCL), shift<Shift::Rcl>}, {M(RCR), shift<Shift::Rcr>},
    {M(SHL), shift<Shift::Shl>}, {M(SHR), shift<Shift::Shr>}, {M(SAR), shift<Shift::Sar>},
    {M(SHLD), double_shift_row<true>}, {M(SHRD), double_shift_row<false>},
    {M(IMUL), imul}, {M(MUL), wide<Wide::Mul>}, {M(DIV), wide<Wide::Div>}, {M(IDIV), wide<Wide::Idiv>},
    {M(BT), bit_test<BitTest::Bt>}, {M(BTS), bit_test<BitTest::Bts>}, {M(BTR), bit_test<BitTest::Btr>}, {M(BTC), bit_test<BitTest::Btc>},
    {M(BSF), bit_scan<false>}, {M(BSR), bit_scan<true>}, {M(XADD), xadd_row}, {M(CMPXCHG), cmpxchg_row},
    {M(CMPXCHG8B), cmpxchg_wide_row<4>}, {M(CMPXCHG16B), cmpxchg_wide_row<8>},
    {M(JO), jcc}, {M(JNO), jcc}, {M(JB), jcc}, {M(JNB), jcc}, {M(JZ), jcc}, {M(JNZ), jcc}, {M(JBE), jcc}, {M(JNBE), jcc}, {M(JS), jcc},
    {M(JNS), jcc}, {M(JP), jcc}, {M(JNP), jcc}, {M(JL), jcc}, {M(JNL), jcc}, {M(JLE), jcc}, {M(JNLE), jcc},
    {M(JMP), jmp}, {M(CALL), call}, {M(RET), ret},
    {M(LOOP), loop_row<Loop::Loop>}, {M(LOOPE), loop_row<Loop::Loope>}, {M(LOOPNE), loop_row<Loop::Loopne>},
    {M(JCXZ), loop_row<Loop::Jcxz>}, {M(JECXZ), loop_row<Loop::Jcxz>}, {M(JRCXZ), loop_row<Loop::Jcxz>},
    {M(PUSH), push_row}, {M(POP), pop_row}, {M(PUSHA), pusha_row}, {M(PUSHAD), pusha_row}, {M(POPA), popa_row}, {M(POPAD), popa_row},
    {M(ENTER), enter_row}, {M(LEAVE), leave_row},
    {M(MOVSB), string_row<StringOp::Movs>}, {M(MOVSW), string_row<StringOp::Movs>}, {M(MOVSD), string_row<StringOp::Movs>},
    {M(MOVSQ), string_row<StringOp::Movs>}, {M(STOSB), string_row<StringOp::Stos>}, {M(STOSW), string_row<StringOp::Stos>},
    {M(STOSD), string_row<StringOp::Stos>}, {M(STOSQ), string_row<StringOp::Stos>}, {M(LODSB), string_row<StringOp::Lods>},
    {M(LODSW), string_row<StringOp::Lods>}, {M(LODSD), string_row<StringOp::Lods>}, {M(LODSQ), string_row<StringOp::Lods>},
    {M(SCASB), string_row<StringOp::Scas>}, {M(SCASW), string_row<StringOp::Scas>}, {M(SCASD), string_row<StringOp::Scas>},
    {M(SCASQ), string_row<StringOp::Scas>}, {M(CMPSB), string_row<StringOp::Cmps>}, {M(CMPSW), string_row<StringOp::Cmps>},
    {M(CMPSD), string_row<StringOp::Cmps>}, {M(CMPSQ), string_row<StringOp::Cmps>},
    {M(IN), in_row}, {M(OUT), out_row}, {M(INSB), ins_row<1>}, {M(INSW), ins_row<2>}, {M(INSD), ins_row<4>},
    {M(OUTSB), outs_row<1>}, {M(OUTSW), outs_row<2>}, {M(OUTSD), outs_row<4>},
    {M(VMXON), vmx_row<vmx::vmxon>}, {M(VMXOFF), vmx_row<vmx::vmxoff>}, {M(VMCLEAR), vmx_row<vmx::vmclear>},
    {M(VMPTRLD), vmx_row<vmx::vmptrld>}, {M(VMPTRST), vmx_row<vmx::vmptrst>}, {M(VMREAD), vmx_row<vmx::vmread>},
    {M(VMWRITE), vmx_row<vmx::vmwrite>}, {M(VMLAUNCH), vmx_row<vmx::vmlaunch>}, {M(VMRESUME), vmx_row<vmx::vmresume>},
    {M(VMCALL), vmx_row<vmx::vmcall>}, {M(VMFUNC), vmx_row<vmx::vmfunc>}, {M(INVEPT), vmx_row<vmx::invept>},
    {M(INVVPID), vmx_row<vmx::invvpid>},
};
#undef M

constexpr auto kRows = [] {
  std::array<Row, ZYDIS_MNEMONIC_MAX_VALUE + 1> rows{};
  for (const Entry &e : kEntries) rows[e.mnemonic] = e.row;
  return rows;
}();

} // namespace

bool translate_by_table(const Translating &t) {
  const Row row = kRows[t.instruction.mnemonic];
  return row && row(t);
}

} // namespace abyme::soft
