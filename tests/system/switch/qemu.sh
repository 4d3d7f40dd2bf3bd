#!/bin/bash
# QEMU's own vhost-user front-end, unchanged: a PC whose boot firmware has a virtio-net driver asks for an address over the network.
. "$(dirname "$0")/common.sh"
need qemu-system-x86_64 qemu-system-x86
need jq jq
[ -e /usr/lib/ipxe/qemu/efi-virtio.rom ] || [ -e /usr/share/qemu/efi-virtio.rom ] || [ -e /usr/lib/ipxe/qemu/pxe-virtio.rom ] || skip "no network boot firmware (Debian package ipxe-qemu)"

cat >"$dir/switch.yml" <<E2
switches: {core: {}}
port_groups: {lan: {switch: core, vlan: 10}}
ports:
  vm: {port_group: lan, kind: vhost-user, path: $dir/vm, mac: "52:54:00:12:34:56"}
  seen: {port_group: lan, kind: pcap, out: $dir/seen.pcapng}
E2
start_switch "$dir/switch.yml"
qemu-system-x86_64 -M pc -accel tcg -m 64 -display none -serial none -monitor none -nodefaults \
  -object memory-backend-memfd,id=ram,size=64M,share=on -machine memory-backend=ram \
  -chardev socket,id=net,path="$dir/vm",reconnect=1 -netdev vhost-user,id=n0,chardev=net \
  -device virtio-net-pci,netdev=n0,mac=52:54:00:12:34:56 >"$dir/qemu.log" 2>&1 &
wait_for 60 is_connected vm || fail "QEMU's guest did not start its queues: $(cat "$dir/qemu.log")"
asked() { [ "$(stat vm in_broadcast)" -gt 0 ] && [ "$(stat seen out_frames)" -gt 1 ]; }
wait_for 40 asked || fail "no frame came from the guest"
echo "ok: $(ask ports -o json | jq -c .vm.device)"
kill -9 $switch_pid
wait $switch_pid 2>/dev/null
start_switch "$dir/switch.yml"
wait_for 10 is_connected vm || fail "QEMU did not come back after a restart"
echo "ok: QEMU reconnected"
