#!/bin/bash
# Peers are killed at any moment, over and over, while frames flow: the switch stays, names nobody's fault its own, and takes the next peer.
. "$(dirname "$0")/common.sh"
need dpdk-testpmd "dpdk, librte-net-virtio23"
need jq jq

cat >"$dir/switch.yml" <<E2
switches: {core: {}}
port_groups:
  lan: {switch: core, vlan: 10, policy: {forged_transmits: accept}}
ports:
  a: {port_group: lan, kind: vhost-user, path: $dir/a, mac: "52:54:00:00:00:01"}
  b: {port_group: lan, kind: vhost-user, path: $dir/b, mac: "52:54:00:00:00:02"}
E2
start_switch "$dir/switch.yml"
is_waiting() { [ "$(state a)" = waiting ] && [ "$(state b)" = waiting ]; }
more_than() { [ "$(stat a in_frames)" -gt "$1" ]; }

for round in 1 2 3 4 5; do
  frames=$(stat a in_frames)
  dpdk-testpmd -l 0,1 --no-huge -m 128 --no-pci --no-telemetry --file-prefix "abyme$$" \
    --vdev="net_virtio_user0,path=$dir/a,mac=52:54:00:00:00:01" --vdev="net_virtio_user1,path=$dir/b,mac=52:54:00:00:00:02" \
    -- --no-mlockall --total-num-mbufs=2048 --forward-mode=txonly --eth-peer=0,52:54:00:00:00:02 --stats-period=60 </dev/null >"$dir/pmd.log" 2>&1 &
  peer=$!
  # Sometimes in the middle of its greetings, otherwise under load.
  if [ $((round % 2)) = 0 ]; then sleep 0.$((RANDOM % 9)); else wait_for 20 more_than $((frames + 1000)) || fail "round $round: no frames"; fi
  kill -9 $peer
  wait $peer 2>/dev/null
  wait_for 5 is_waiting || fail "round $round: a dead peer is still connected"
  kill -0 $switch_pid || fail "the switch died"
  echo "ok: round $round, $(stat a in_frames) frames"
done
