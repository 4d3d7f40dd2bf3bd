#!/bin/bash
# The switch is killed at any moment and started again: its guests are back within a second, and so are their frames.
. "$(dirname "$0")/common.sh"
need dpdk-testpmd "dpdk, librte-net-virtio23"
need jq jq

cat >"$dir/switch.yml" <<E2
switches: {core: {}}
port_groups:
  lan: {switch: core, vlan: 10, policy: {forged_transmits: accept}}
ports:
  a: {port_group: lan, kind: vhost-user, mode: client, path: $dir/a, mac: "52:54:00:00:00:01"}
  b: {port_group: lan, kind: vhost-user, mode: client, path: $dir/b, mac: "52:54:00:00:00:02"}
E2
start_switch "$dir/switch.yml"
mkfifo "$dir/commands"
dpdk-testpmd -l 0,1 --no-huge -m 256 --no-pci --no-telemetry --file-prefix "abyme$$" \
  --vdev="net_virtio_user0,server=1,path=$dir/a,mac=52:54:00:00:00:01" --vdev="net_virtio_user1,server=1,path=$dir/b,mac=52:54:00:00:00:02" \
  -- -i --no-mlockall --total-num-mbufs=4096 --forward-mode=txonly --eth-peer=0,52:54:00:00:00:02 --eth-peer=1,52:54:00:00:00:01 \
  <"$dir/commands" >"$dir/pmd.log" 2>&1 &
exec 9>"$dir/commands"
wait_for 20 is_connected b || { tail "$dir/pmd.log"; fail "testpmd did not connect"; }
echo start >&9
flowing() { [ "$(stat a in_frames)" -gt 1000 ]; }
wait_for 10 flowing || fail "no frames at first"

for round in 1 2 3; do
  sleep 0.$((round * 3))
  kill -9 $switch_pid
  wait $switch_pid 2>/dev/null
  began=$(date +%s%N)
  start_switch "$dir/switch.yml"
  wait_for 10 is_connected a || fail "a did not come back"
  took=$((($(date +%s%N) - began) / 1000000))
  wait_for 10 flowing || fail "no frames after restart $round"
  echo "ok: restart $round, back after $took ms"
  # A busy machine takes its time to start processes; what the switch itself needs is a fifth of this.
  [ $took -lt 3000 ] || fail "it took $took ms"
done
echo quit >&9
