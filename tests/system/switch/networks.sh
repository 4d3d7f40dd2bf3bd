#!/bin/bash
# Network namespaces on taps, a packet port, a VXLAN tunnel between two switches, passt, and captures that tshark reads; as an ordinary user.
[ "${2:-}" = inside ] || {
  unshare -Urnm true 2>/dev/null || { echo "skipped: this machine does not let users make network namespaces"; exit 77; }
  exec unshare -Urnm "$0" "$1" inside
}
. "$(dirname "$0")/common.sh"
need ip iproute2
need jq jq
[ -c /dev/net/tun ] || skip "/dev/net/tun is missing"
mount -t tmpfs none /run && mkdir -p /run/netns || skip "no private /run"
ip link set lo up
for ns in n1 n2 n3 n4 n5; do ip netns add $ns || skip "network namespaces cannot be made here"; done

cat >"$dir/switch.yml" <<E2
switches: {core: {mtu: 1500, snooping: true}}
port_groups:
  blue: {switch: core, vlan: 10}
  red: {switch: core, vlan: 20}
  all: {switch: core, vlan: 4095}
ports:
  t1: {port_group: blue, kind: tap, name: eth0, netns: n1}
  t2: {port_group: blue, kind: tap, name: eth0, netns: n2}
  t3: {port_group: red, kind: tap, name: eth0, netns: n3}
E2
start_switch "$dir/switch.yml"
for i in 1 2 3; do ip -n n$i addr add 10.0.0.$i/24 dev eth0; done
# reaches NAMESPACE ADDRESS: asks who has the address, and gets an answer.
reaches() {
  ip -n "$1" neigh flush to "$2" >/dev/null 2>&1
  ip netns exec "$1" bash -c "echo >/dev/udp/$2/9" 2>/dev/null
  for _ in 1 2 3 4 5 6 7 8; do
    ip -n "$1" neigh show to "$2" | grep -q lladdr && return
    sleep 0.1
  done
  return 1
}
wait_for 5 reaches n1 10.0.0.2 || fail "two guests of one VLAN do not reach each other"
reaches n1 10.0.0.3 && fail "VLANs 10 and 20 are not apart"
echo "ok: taps and VLANs"

# A change on the running switch.
ask set port t3 port_group=blue >/dev/null || fail "set"
wait_for 5 reaches n1 10.0.0.3 || fail "t3 did not change its VLAN"
ask set port t3 port_group=red >/dev/null
echo "ok: change at run time"

# A big transfer: segmentation offload across taps, checksums finished where needed.
if command -v python3 >/dev/null; then
  ip netns exec n2 python3 -c 'import socket
s=socket.create_server(("10.0.0.2",5000)); c,_=s.accept(); n=0
while (d:=c.recv(1<<16)): n+=len(d)
c.close(); print(n)' >"$dir/received" &
  receiver=$!
  sleep 0.5
  ip netns exec n1 python3 -c 'import socket
c=socket.create_connection(("10.0.0.2",5000)); c.sendall(b"x"*8000000); c.close()' || fail "TCP does not pass"
  wait $receiver
  [ "$(cat "$dir/received")" = 8000000 ] || fail "TCP lost bytes: $(cat "$dir/received")"
  echo "ok: TCP with offloads"
fi

# A VM behind t1 that forges its address: dropped, counted, shown in a capture.
ask capture t1 -w "$dir/t1.pcapng" 2>"$dir/capture.log" &
capture=$!
sleep 0.5
ip -n n1 link add link eth0 name mv0 type macvlan mode bridge && ip -n n1 link set mv0 netns n5 && ip -n n5 link set mv0 up &&
  ip -n n5 addr add 10.0.0.77/24 dev mv0 || skip "no macvlan interfaces here"
reaches n5 10.0.0.2 && fail "a forged address passed"
sleep 0.3
kill $capture; wait $capture 2>/dev/null
if command -v tshark >/dev/null; then
  tshark -r "$dir/t1.pcapng" -T fields -e frame.comment >"$dir/comments" 2>/dev/null || fail "tshark cannot read the capture"
  grep -q "forged-transmit" "$dir/comments" || fail "the capture does not say forged-transmit: $(sort "$dir/comments" | uniq -c | head)"
  grep -q "VLAN 10" "$dir/comments" || fail "the capture does not say the VLAN"
  tshark -r "$dir/t1.pcapng" -Y "frame.packet_flags_direction == 1" 2>/dev/null | grep -q . || fail "the capture has no directions"
  echo "ok: capture, read by tshark"
fi
[ "$(stat t1 'drops."forged-transmit"')" -gt 0 ] || fail "forged transmits are not counted"
ask set group blue policy.forged_transmits=accept mac_learning.enabled=true >/dev/null
wait_for 5 reaches n5 10.0.0.2 || fail "a learned nested address is not reached"
ask fdb -o json | jq -e 'map(select(.kind=="learned" and .port=="t1")) | length > 0' >/dev/null || fail "the nested address was not learned"
echo "ok: nested address, allowed and learned"

# A switch inside a namespace, as an L1 guest has it, on the NIC that leads to ours: tags cross between two packet ports.
ip link add up0 type veth peer name eth0 netns n4
ip link set up0 up; ip -n n4 link set eth0 up; ip -n n4 link set lo up
cat >"$dir/inner.yml" <<E2
switches: {inner: {}}
port_groups:
  all: {switch: inner, vlan: all}
  red: {switch: inner, vlan: 20}
ports:
  nic: {port_group: all, kind: packet, interface: eth0}
  vm: {port_group: red, kind: tap, name: vm0}
E2
ip netns exec n4 "$abyme" switch --config "$dir/inner.yml" --socket "$dir/inner" >"$dir/inner.log" 2>&1 &
vm_up() { ip -n n4 link show vm0 >/dev/null 2>&1; }
wait_for 5 vm_up || fail "the inner switch: $(cat "$dir/inner.log")"
ip -n n4 addr add 10.0.0.4/24 dev vm0
ask set port up port_group=all kind=packet interface=up0 >/dev/null || fail "packet port"
wait_for 5 reaches n4 10.0.0.3 || fail "VLAN 20 does not cross the trunk to a packet port"
reaches n4 10.0.0.2 && fail "VLAN 10 is reached from VLAN 20"
echo "ok: packet port with tags"

# Two switch processes, one tunnel.
cat >"$dir/other.yml" <<E2
switches: {core: {mtu: 1400}}
port_groups: {red: {switch: core, vlan: 20}}
ports:
  far: {port_group: red, kind: tap, name: far0, netns: n2}
  tunnel: {port_group: red, kind: vxlan, vni: 77, local: 127.0.0.2, remotes: [127.0.0.1]}
E2
"$abyme" switch --config "$dir/other.yml" --socket "$dir/other" >>"$dir/other.log" 2>&1 &
ask set port tunnel port_group=red kind=vxlan vni=77 local=127.0.0.1 'remotes=[127.0.0.2]' >/dev/null || fail "vxlan port"
far_up() { ip -n n2 link show far0 >/dev/null 2>&1; }
wait_for 5 far_up || fail "the other switch: $(cat "$dir/other.log")"
ip -n n2 addr add 10.0.9.2/24 dev far0; ip -n n3 addr add 10.0.9.3/24 dev eth0
wait_for 5 reaches n3 10.0.9.2 || fail "no way through the tunnel"
echo "ok: VXLAN between two switches"

if command -v passt >/dev/null; then
  ask set group nat switch=core vlan=30 >/dev/null
  if ask set port nat port_group=nat kind=passt >/dev/null 2>&1 && wait_for 3 is_connected nat; then
    echo "ok: passt connected"
  else
    echo "not tried: passt does not start inside these namespaces"
  fi
fi
ask stats --metrics | grep -q '^abyme_switch_port_drops_total{.*reason="forged-transmit"} [1-9]' || fail "metrics lack the drops"
echo "ok: metrics"
