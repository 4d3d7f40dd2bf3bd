#pragma once
#include "soft/decode/block_cache.hpp"
#include "soft/interp/dispatch.hpp"
#include "soft/system/test_machine.hpp"

// For tests: a TestMachine that runs code, a block or an instruction at a time.
namespace abyme::soft {

class CodeMachine : public system::TestMachine, CodeListener {
public:
  CodeMachine() : blocks_(4_MiB, sync_) {
    cpu.blocks = &blocks_;
    cpu.bus_lock = &bus_lock_;
    cpu.memory->set_code_listener(this);
    hostexec::enter(cpu);
  }
  ~CodeMachine() override {
    hostexec::leave(cpu);
    cpu.memory->set_code_listener(nullptr);
  }

  void put(u64 at, const std::vector<u8> &code) { EXPECT_TRUE(cpu.memory->write(Gpa(at), code.data(), code.size())); }
  // Runs from cpu.rip until something leaves the linked blocks (or one instruction). cpu.fault says what stopped it.
  void run(bool single) {
    cpu.fault.kind = Fault::Kind::None;
    Block *b = blocks_.find(cpu, single);
    if (!b) return;
    cpu.instructions += b->count;
    for (const Op *op = b->ops; op;) op = op->handler(cpu, op);
    hostexec::sync_mxcsr(cpu);
  }
  void step() { run(true); }
  void run_block() { run(false); }
  // One instruction at kCode, from the current state.
  void execute(const std::vector<u8> &code) {
    put(kCode, code);
    cpu.memory->note_written(Gpa(kCode), code.size());
    blocks_.process(cpu);
    cpu.rip = kCode - cpu.segments[x86::CS].base;
    step();
  }
  void real_code() { // at 0:kCode
    real_mode();
    cpu.rip = kCode;
  }
  void code16() {
    protected_mode();
    cpu.segments[x86::CS] = segment(kCode16);
    mode_changed(cpu);
  }
  BlockCache &blocks() { return blocks_; }
  struct : CodeSync {
    std::vector<u64> retired;
    void retire_writers(Gpa page, Cpu &) override { retired.push_back(page.value); }
  } sync_;

private:
  void code_written(Gpa page) override { blocks_.post(cpu, {.page = page, .drop_code = true}); }
  BlockCache blocks_;
  std::mutex bus_lock_;
};

} // namespace abyme::soft
