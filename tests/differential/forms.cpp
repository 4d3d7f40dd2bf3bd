#include "forms.hpp"
#include "exclusions.hpp"
#include <cstring>
#include <map>

namespace abyme::differential {
namespace {

// Bytes of an encoding; `tail` follows the opcode: ModRM and what comes after it.
struct Fields {
  u8 r = 0, x = 0, b = 0, vvvv = 0, rex = 0; // rex: emit one even when it is 40h
};

unsigned emit(const Encoding &e, const Fields &f, u8 *out) {
  unsigned n = 0;
  for (unsigned i = 0; i < e.prefix_count; ++i) out[n++] = e.prefixes[i];
  if (e.vex) {
    out[n++] = 0xC4;
    out[n++] = static_cast<u8>((!f.r) << 7 | (!f.x) << 6 | (!f.b) << 5 | e.map);
    out[n++] = static_cast<u8>(e.w << 7 | (~f.vvvv & 15) << 3 | e.l << 2 | e.pp);
  } else {
    const u8 rex = static_cast<u8>(0x40 | e.w << 3 | f.r << 2 | f.x << 1 | f.b);
    if (rex != 0x40 || f.rex) out[n++] = rex;
    if (e.map) out[n++] = 0x0F;
    if (e.map == 2) out[n++] = 0x38;
    if (e.map == 3) out[n++] = 0x3A;
  }
  out[n++] = e.opcode;
  return n;
}

const char *class_name(ZydisRegister reg) {
  switch (ZydisRegisterGetClass(reg)) {
  case ZYDIS_REGCLASS_GPR8: return "r8";
  case ZYDIS_REGCLASS_GPR16: return "r16";
  case ZYDIS_REGCLASS_GPR32: return "r32";
  case ZYDIS_REGCLASS_GPR64: return "r64";
  case ZYDIS_REGCLASS_X87: return "st";
  case ZYDIS_REGCLASS_MMX: return "mm";
  case ZYDIS_REGCLASS_XMM: return "xmm";
  case ZYDIS_REGCLASS_YMM: return "ymm";
  default: return ZydisRegisterGetString(reg);
  }
}

std::string operand_name(const ZydisDecodedOperand &o) {
  switch (o.type) {
  case ZYDIS_OPERAND_TYPE_REGISTER:
    return o.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT ? class_name(o.reg.value)
                                                             : ZydisRegisterGetString(o.reg.value);
  case ZYDIS_OPERAND_TYPE_MEMORY: return "m" + std::to_string(o.size);
  case ZYDIS_OPERAND_TYPE_IMMEDIATE: return "imm" + std::to_string(o.size);
  default: return "ptr";
  }
}

constexpr u8 kPrefixSets[][3] = {{0, 0, 0},       {0x66, 0, 0},    {0xF2, 0, 0}, {0xF3, 0, 0},
                                 {0x66, 0xF2, 0}, {0x66, 0xF3, 0}, {0xF0, 0, 0}, {0xF0, 0x66, 0}};

class Enumeration {
public:
  explicit Enumeration(const x86::CpuProfile &profile) : profile_(profile) {}

  void legacy(bool compatible) {
    for (const auto &set : kPrefixSets)
      for (u8 map = 0; map < 4; ++map)
        for (const bool w : {false, true}) {
          if (w && compatible) continue; // there is no REX
          Encoding e;
          e.compatible = compatible;
          for (const u8 p : set)
            if (p) e.prefixes[e.prefix_count++] = p;
          e.map = map;
          e.w = w;
          opcodes(e);
        }
  }
  void vex() {
    for (u8 map = 1; map < 4; ++map)
      for (u8 pp = 0; pp < 4; ++pp)
        for (const bool l : {false, true})
          for (const bool w : {false, true}) {
            Encoding e;
            e.vex = true;
            e.map = map;
            e.pp = pp;
            e.l = l;
            e.w = w;
            opcodes(e);
          }
  }
  [[nodiscard]] std::vector<Form> take() {
    std::vector<Form> forms;
    for (auto &[name, e] : found_) forms.push_back({name, e});
    return forms;
  }

private:
  void opcodes(Encoding e) {
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
      e.opcode = static_cast<u8>(opcode);
      for (e.reg = 0; e.reg < 8; ++e.reg) {
        e.memory = true;
        e.rm = 3;
        look_at(e);
        e.memory = false;
        for (e.rm = 0; e.rm < 8; ++e.rm) look_at(e);
      }
    }
  }

  void look_at(Encoding e) {
    u8 bytes[24] = {};
    Fields f;
    f.rex = e.w;
    const bool vsib = e.vex && e.map == 2 && (e.opcode & 0xFC) == 0x90; // needs a SIB byte and three registers
    if (vsib) {
      e.rm = 4;
      f.vvvv = 9;
    }
    unsigned n = emit(e, f, bytes);
    bytes[n++] = static_cast<u8>((e.memory ? 0 : 0xC0) | e.reg << 3 | e.rm);
    if (vsib) bytes[n++] = static_cast<u8>(((e.reg + 1) & 7) << 3 | 3);
    Decoded d;
    if (!decode(bytes, 15, e.compatible, d)) return;
    // A prefix that is a REX, or that another opcode follows, belongs to a form found elsewhere.
    if (d.instruction.opcode != e.opcode || !comparable(profile_, d)) return;
    found_.try_emplace(form_name(d), e);
  }

  const x86::CpuProfile &profile_;
  std::map<std::string, Encoding> found_;
};

// A memory operand's ModRM, SIB and displacement, all kinds of them.
unsigned emit_memory(u8 reg, Random &random, bool vsib, u8 *out) {
  unsigned n = 0;
  const u8 mod = static_cast<u8>(random.below(3));
  const u8 rm = vsib ? 4 : static_cast<u8>(random.below(8));
  out[n++] = static_cast<u8>(mod << 6 | reg << 3 | rm);
  u8 base = rm;
  if (rm == 4) {
    base = static_cast<u8>(random.below(8));
    out[n++] = static_cast<u8>(random.next() & 0xF8) | base;
  }
  const unsigned disp = mod == 1 ? 1 : mod == 2 || (mod == 0 && base == 5) ? 4 : 0;
  const u64 value = random.next();
  std::memcpy(out + n, &value, disp);
  return n + disp;
}

bool is_vsib(const Form &form) { return form.name.find("gather") != std::string::npos; }

std::optional<Instance> attempt(const Form &form, Random &random, bool original) {
  Encoding e = form.encoding;
  Fields f;
  f.r = random.next() >> 8 & 1;
  f.x = random.next() >> 8 & 1;
  f.b = random.next() >> 8 & 1;
  f.vvvv = static_cast<u8>(random.below(16));
  f.rex = e.w || random.chance(50);
  if (e.compatible) f.r = f.x = f.b = f.rex = 0;
  if (original || (!e.vex && random.chance(30))) f.r = f.x = f.b = 0, f.rex = e.w;
  if (!is_vsib(form) && (original || random.chance(20))) f.vvvv = 0;
  if (!original) e.reg = static_cast<u8>(random.below(8));
  if (!original && !e.memory) e.rm = static_cast<u8>(random.below(8));
  u8 bytes[40] = {};
  unsigned n = 0;
  if (e.memory && random.chance(10)) bytes[n++] = 0x65;
  if (e.memory && random.chance(10)) bytes[n++] = 0x67;
  n += emit(e, f, bytes + n);
  if (e.memory)
    n += emit_memory(e.reg, random, is_vsib(form), bytes + n);
  else
    bytes[n++] = static_cast<u8>(0xC0 | e.reg << 3 | e.rm);
  const u64 tail = random.chance(30) ? random.below(70) : random.next();
  std::memcpy(bytes + n, &tail, 8);
  Instance instance;
  if (!decode(bytes, 15, e.compatible, instance.decoded) || form_name(instance.decoded) != form.name)
    return std::nullopt;
  instance.length = instance.decoded.instruction.length;
  std::memcpy(instance.bytes, bytes, 15);
  return instance;
}

} // namespace

bool decode(const u8 *bytes, size_t size, bool compatible, Decoded &out) {
  ZydisDecoder decoder;
  ZydisDecoderInit(&decoder, compatible ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
                   compatible ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
  for (const auto mode : {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET, ZYDIS_DECODER_MODE_CLDEMOTE,
                          ZYDIS_DECODER_MODE_KNC, ZYDIS_DECODER_MODE_WBNOINVD})
    ZydisDecoderEnableMode(&decoder, mode, ZYAN_FALSE);
  if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, size, &out.instruction, out.operands))) return false;
  // Zydis 4.0 takes R13D for a base where ModRM.mod says that there is none (SDM 2A table 2-3, footnote 1).
  const auto &raw = out.instruction.raw;
  for (auto &o : out.operands)
    if (o.type == ZYDIS_OPERAND_TYPE_MEMORY && out.instruction.address_width == 32 && raw.modrm.rm == 4 &&
        raw.modrm.mod == 0 && raw.sib.base == 5) {
      o.mem.base = ZYDIS_REGISTER_NONE;
      o.mem.disp.value = raw.disp.value;
    }
  return true;
}

std::string form_name(const Decoded &d) {
  std::string name = is_compatible(d) ? "32-bit " : "";
  if (d.instruction.attributes & ZYDIS_ATTRIB_HAS_LOCK) name += "lock ";
  if (d.instruction.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) name += "rep ";
  if (d.instruction.attributes & ZYDIS_ATTRIB_HAS_REPNE) name += "repne ";
  name += ZydisMnemonicGetString(d.instruction.mnemonic);
  for (unsigned n = 0; n < d.instruction.operand_count_visible; ++n)
    name += (n ? ", " : " ") + operand_name(d.operands[n]);
  return name;
}

std::vector<Form> all_forms(const x86::CpuProfile &profile) {
  Enumeration e(profile);
  e.legacy(false);
  e.legacy(true);
  e.vex();
  return e.take();
}

std::optional<Instance> vary(const Form &form, Random &random) {
  for (unsigned n = 0; n < 12; ++n)
    if (auto instance = attempt(form, random, n >= 6)) return instance;
  return std::nullopt;
}

} // namespace abyme::differential
