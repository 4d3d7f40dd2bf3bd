#include "soft/hostexec/arena.hpp"
#include <cstddef>

namespace abyme::soft::hostexec {
namespace {

using namespace asmjit::x86;

// Vector registers that an instruction names or implies, a bit each.
struct Vectors {
  u16 used = 0, written = 0;
};

Vectors vectors_of(const ZydisDecodedInstruction &i, const ZydisDecodedOperand *operands) {
  Vectors v;
  for (unsigned n = 0; n < i.operand_count; ++n) {
    if (operands[n].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    const auto cls = ZydisRegisterGetClass(operands[n].reg.value);
    if (cls != ZYDIS_REGCLASS_XMM && cls != ZYDIS_REGCLASS_YMM) continue;
    const auto bit = static_cast<u16>(1 << ZydisRegisterGetId(operands[n].reg.value));
    v.used |= bit;
    if (operands[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) v.written |= bit;
  }
  return v;
}

template <class F> void each_bit(u16 mask, F &&f) {
  for (u32 n = 0; n < 16; ++n)
    if (mask >> n & 1) f(n);
}

// Emits one stub: void(Cpu *rdi, void *rsi).
class Writer {
public:
  Writer(asmjit::CodeHolder &code, const RegisterMap &map, Vectors vectors, bool vex)
      : a_(&code), map_(map), vectors_(vectors), vex_(vex) {}

  void write(const Encoded &instruction) {
    save_host_registers();
    move_arguments();
    if (map_.flags) load_flags();
    load_vectors();
    each_bit(map_.guest_used, [&](u32 n) { a_.mov(host(n), guest(n)); });
    a_.embed(instruction.bytes.data(), instruction.length);
    each_bit(map_.guest_written, [&](u32 n) { a_.mov(guest(n), host(n)); });
    if (map_.flags) store_flags();
    store_vectors();
    for (u32 n = 16; n-- > 0;)
      if (saved_ >> n & 1) a_.pop(gpq(n));
    a_.ret();
  }

private:
  [[nodiscard]] Mem state(size_t offset) const { return ptr(gpq(map_.state), static_cast<i32>(offset)); }
  [[nodiscard]] Mem guest(u32 n) const { return state(offsetof(Cpu, gpr) + n * 8); }
  [[nodiscard]] Gp host(u32 n) const { return gpq(n == 4 ? map_.stack_pointer : n); }

  void save_host_registers() {
    constexpr u16 kCalleeSaved = 0xF028; // RBX, RBP, R12-R15
    u16 touched = static_cast<u16>((map_.guest_used & ~(1 << 4)) | 1 << map_.memory | 1 << map_.state);
    if (map_.guest_used >> 4 & 1) touched |= static_cast<u16>(1 << map_.stack_pointer);
    saved_ = touched & kCalleeSaved;
    each_bit(saved_, [&](u32 n) { a_.push(gpq(n)); });
  }

  void move_arguments() {
    if (map_.state != 7) a_.mov(gpq(map_.state), rdi);
    if (map_.memory != 6) a_.mov(gpq(map_.memory), rsi);
  }

  // AL is 1 where OF is to be set: adding 7FH overflows just then. SAHF does the rest.
  void load_flags() {
    a_.mov(eax, state(offsetof(Cpu, status)));
    a_.add(al, 0x7F);
    a_.sahf();
  }
  void store_flags() {
    a_.lahf();
    a_.seto(al);
    a_.movzx(eax, ax);
    a_.mov(state(offsetof(Cpu, status)), rax);
  }

  void load_vectors() {
    each_bit(vectors_.used, [&](u32 n) {
      if (vex_)
        a_.vmovups(ymm(n), state(offsetof(Cpu, ymm) + n * 32));
      else
        a_.movups(xmm(n), state(offsetof(Cpu, ymm) + n * 32));
    });
  }
  // Leaves no upper halves behind: legacy SSE code of the compiler would wait for them on some CPUs.
  void store_vectors() {
    each_bit(vectors_.written, [&](u32 n) {
      if (vex_)
        a_.vmovups(state(offsetof(Cpu, ymm) + n * 32), ymm(n));
      else
        a_.movups(state(offsetof(Cpu, ymm) + n * 32), xmm(n));
    });
    if (vex_ && vectors_.used) a_.vzeroupper();
  }

  Assembler a_;
  const RegisterMap &map_;
  Vectors vectors_;
  bool vex_;
  u16 saved_ = 0;
};

asmjit::JitAllocator::CreateParams allocator_parameters() {
  asmjit::JitAllocator::CreateParams p{};
  p.options = asmjit::JitAllocatorOptions::kUseDualMapping;
  p.blockSize = 256 * 1024;
  return p;
}

const asmjit::JitAllocator::CreateParams kAllocator = allocator_parameters();

// What tells two stubs apart: the code, and which guest registers its register numbers stand for.
std::string key_of(const RegisterMap &map, const Encoded &code) {
  std::string key(code.view());
  key += static_cast<char>(map.guest_used & 0xFF);
  key += static_cast<char>(map.guest_used >> 8);
  key += static_cast<char>(map.stack_pointer);
  return key;
}

} // namespace

Arena::Arena() : runtime_(std::make_unique<asmjit::JitRuntime>(&kAllocator)) {}

Stub Arena::stub(const ZydisDecodedInstruction &instruction, const ZydisDecodedOperand *operands, bool general) {
  RegisterMap map;
  if (!map_registers(instruction, operands, map)) return nullptr;
  const Encoded code = reencode(instruction, operands, map, general);
  const std::string key = key_of(map, code);
  if (const auto found = stubs_.find(key); found != stubs_.end()) return found->second;
  const Stub made = make(instruction, operands, map, code);
  if (made) stubs_.emplace(key, made);
  return made;
}

Stub Arena::make(const ZydisDecodedInstruction &instruction, const ZydisDecodedOperand *operands,
                 const RegisterMap &map, const Encoded &code) {
  asmjit::CodeHolder holder;
  if (holder.init(runtime_->environment())) return nullptr;
  Writer(holder, map, vectors_of(instruction, operands), instruction.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
      .write(code);
  Stub stub = nullptr;
  if (runtime_->add(&stub, &holder)) return nullptr;
  code_bytes_ += holder.codeSize();
  return stub;
}

void Arena::clear() {
  stubs_.clear();
  plans_.clear();
  runtime_ = std::make_unique<asmjit::JitRuntime>(&kAllocator); // its own reset() leaves a tree that asserts
  code_bytes_ = 0;
}

} // namespace abyme::soft::hostexec
