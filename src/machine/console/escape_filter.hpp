#pragma once
#include "machine/bytes.hpp"

namespace abyme::machine {

// Finds the escape sequences in what a user types: Ctrl-] q ends the VM, Ctrl-] Ctrl-] types one Ctrl-]. Consoles nest,
// so the escape key alone does nothing: each level passes on what is not for itself.
class EscapeFilter {
public:
  static constexpr u8 kKey = 0x1D;
  struct Typed {
    Bytes input; // for the guest
    bool quit = false;
  };
  [[nodiscard]] Typed filter(ByteView bytes) {
    Typed typed;
    for (const u8 byte : bytes) take(byte, typed);
    return typed;
  }

private:
  void take(u8 byte, Typed &typed) {
    if (!escaped_) {
      escaped_ = byte == kKey;
      if (!escaped_) typed.input.push_back(byte);
      return;
    }
    escaped_ = false;
    if (byte == 'q') {
      typed.quit = true;
    } else {
      typed.input.push_back(kKey);
      if (byte != kKey) typed.input.push_back(byte);
    }
  }
  bool escaped_ = false; // the last byte was the key
};

} // namespace abyme::machine
