#!/bin/bash
# A guest behind passt: a capture file plays its frames in, passt answers, and the answers reach the guest's port and nobody of another VLAN.
. "$(dirname "$0")/common.sh"
need passt passt
need python3 python3
need jq jq

# What the guest says: who has the gateway, and a DHCP discover.
python3 - "$dir/guest.pcap" <<'E2' || fail "the guest's frames cannot be written"
import struct, sys
guest = bytes.fromhex("525400000001")
everyone = b"\xff" * 6

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16: total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)

def ip(protocol, source, destination, payload):
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 1, 0, 64, protocol)
    return head + checksum(head + bytes(2) + source + destination) + source + destination + payload

address, gateway = bytes([192, 168, 77, 15]), bytes([192, 168, 77, 1])
arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + guest + address + bytes(6) + gateway
bootp = struct.pack("!BBBBIHH", 1, 1, 6, 0, 0x41424344, 0, 0x8000) + bytes(16) + guest + bytes(10 + 64 + 128)
bootp += bytes.fromhex("63825363") + bytes([53, 1, 1, 55, 3, 1, 3, 6, 255]) + bytes(60)
discover = ip(17, bytes(4), b"\xff" * 4, struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp)
frames = [everyone + guest + b"\x08\x06" + arp + bytes(18), everyone + guest + b"\x08\x00" + discover]
with open(sys.argv[1], "wb") as out:
    out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65536, 1))
    for i, frame in enumerate(frames):
        out.write(struct.pack("<IIII", 1, i * 200000, len(frame), len(frame)) + frame)
E2

passt --foreground --quiet --one-off --ipv4-only --socket "$dir/passt.sock" --address 192.168.77.15 --netmask 24 --gateway 192.168.77.1 \
  >"$dir/passt.log" 2>&1 &
passt_pid=$!
has_socket() { [ -S "$dir/passt.sock" ]; }
chmod 777 "$dir" # passt, started by root, becomes nobody before it makes its socket
wait_for 5 has_socket || skip "passt refuses to run here: $(grep -v syslog "$dir/passt.log" | head -n 2)"
kill -0 $passt_pid 2>/dev/null || skip "passt refuses to run here: $(grep -v syslog "$dir/passt.log" | head -n 2)"

cat >"$dir/switch.yml" <<E2
switches: {core: {}}
port_groups:
  nat: {switch: core, vlan: 30}
  other: {switch: core, vlan: 40}
ports:
  out: {port_group: nat, kind: passt, path: $dir/passt.sock}
  elsewhere: {port_group: other, kind: pcap, out: $dir/elsewhere.pcapng, mac: "52:54:00:00:00:02"}
E2
start_switch "$dir/switch.yml"
wait_for 5 is_connected out || skip "passt takes no connection here: $(grep -v syslog "$dir/passt.log" | head -n 2)"
ask set port guest port_group=nat kind=pcap in="$dir/guest.pcap" out="$dir/answers.pcapng" speed=recorded 'mac=52:54:00:00:00:01' >/dev/null || fail "set port guest"

answered() { [ "$(stat guest out_frames)" -ge 2 ]; }
wait_for 10 answered || fail "passt gave $(stat guest out_frames) answers to 2 questions: $(ask stats -o json | jq -c .out)"
[ "$(stat elsewhere out_frames)" = 0 ] || fail "a frame of VLAN 30 reached VLAN 40"
echo "ok: $(stat out in_frames) frames from passt"

ask remove port guest >/dev/null || fail "remove port guest" # its capture is whole from here on
if command -v tshark >/dev/null; then
  tshark -r "$dir/answers.pcapng" -Y "arp.opcode == 2 && arp.src.proto_ipv4 == 192.168.77.1" 2>/dev/null | grep -q . || fail "no ARP answer from the gateway"
  tshark -r "$dir/answers.pcapng" -Y "dhcp.option.dhcp == 2 && dhcp.ip.your == 192.168.77.15" 2>/dev/null | grep -q . || fail "no DHCP offer of the guest's address"
  echo "ok: ARP and DHCP answered"
fi
