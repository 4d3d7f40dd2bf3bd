#!/bin/bash
# DPDK's virtio-user front-end, unchanged: two guests of the switch pass frames round in a circle, with every layout of rings.
. "$(dirname "$0")/common.sh"
need dpdk-testpmd "dpdk, librte-net-virtio23"
need jq jq

cat >"$dir/switch.yml" <<E2
switches: {core: {}}
port_groups:
  lan: {switch: core, vlan: 10, policy: {forged_transmits: accept}, mac_learning: {enabled: true}}
ports:
  a: {port_group: lan, kind: vhost-user, path: $dir/a, mac: "52:54:00:00:00:01"}
  b: {port_group: lan, kind: vhost-user, path: $dir/b, mac: "52:54:00:00:00:02"}
E2
start_switch "$dir/switch.yml"

# circle VDEV-OPTIONS TESTPMD-OPTIONS: frames go from one device through the switch to the other and back through testpmd.
circle() {
  local before after
  before=$(stat b in_frames)
  (sleep 2.5; echo "start tx_first 4"; sleep 1; echo stop; echo quit; sleep 0.5) |
    timeout 25 dpdk-testpmd -l 0,1 --no-huge -m 256 --no-pci --no-telemetry --file-prefix "abyme$$" \
      --vdev="net_virtio_user0,path=$dir/a,mac=52:54:00:00:00:01$1" --vdev="net_virtio_user1,path=$dir/b,mac=52:54:00:00:00:02$1" \
      -- -i --no-mlockall --total-num-mbufs=4096 --forward-mode=io --eth-peer=0,52:54:00:00:00:02 --eth-peer=1,52:54:00:00:00:01 $2 >"$dir/pmd.log" 2>&1
  after=$(stat b in_frames)
  # Far more than were put in: they went round.
  [ $((after - before)) -gt 2000 ] || { tail -n 30 "$dir/pmd.log"; fail "with '$1' only $((after - before)) frames came"; }
  echo "ok: '$1' '$2': $((after - before)) frames"
}
circle "" ""
circle ",mrg_rxbuf=0,in_order=0" ""
circle ",packed_vq=1" ""
circle ",queues=2" "--rxq=2 --txq=2"
[ "$(stat a misbehaved)" = 0 ] || fail "a front-end was blamed"
