// Damage to weft's rules by hand, for each driver.
//
// Each has a description, the command, and what the report of the repair must say.
import type { Driver } from './firewall-subject.js';

/** Unowned rules. */
export const UNOWNED = `table inet others {
  set blocked { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 }; }
  chain input { type filter hook input priority 10; policy accept; ip saddr @blocked drop comment "theirs"; }
  chain prerouting { type nat hook prerouting priority dstnat; policy accept; tcp dport 8081 dnat ip to 203.0.113.9; }
}`;

export function damages(driver: Driver): [string, string, RegExp][] {
  if (driver === 'nftables') {
    const first = `$(nft -a list chain inet weft forward | grep 'do not reach each' | sed -n 's/.*# handle //p' | sed -n 1p)`;
    return [
      [
        'the whole ruleset is flushed',
        "nft flush ruleset; nft -f /dev/stdin <<< '" +
          UNOWNED +
          "'; iptables-nft -t mangle -A FORWARD -d 203.0.113.1 -j MARK --set-mark 7",
        /table inet weft was missing/,
      ],
      ['the table is deleted', 'nft delete table inet weft', /table inet weft was missing/],
      [
        'a rule is deleted',
        `nft delete rule inet weft forward handle ${first}`,
        /chain forward: rule "networks do not reach/,
      ],
      ['a chain is flushed', 'nft flush chain inet weft postrouting', /chain postrouting: rule/],
      [
        'a rule is added',
        'nft insert rule inet weft forward accept',
        /chain forward: rules that weft did not add/,
      ],
      [
        'a policy is changed',
        "nft 'chain inet weft forward { policy drop; }'",
        /chain forward: hook or policy/,
      ],
      [
        'a rule is changed and keeps its comment',
        `c=$(nft list chain inet weft forward | grep 'do not reach each' | sed -n 's/.*comment //p' | sed -n 1p); nft "replace rule inet weft forward handle ${first} accept comment $c"`,
        /was changed/,
      ],
      [
        'elements are deleted',
        'nft delete element inet weft masq4 { 10.1.0.0/16 }',
        /set masq4: 10\.1\.0\.0\/16 missing/,
      ],
      [
        'elements are added',
        'nft add element inet weft own4 { "wfbr1" . 10.2.0.0/16 }',
        /set own4: wfbr1 \. 10\.2\.0\.0\/16 not wanted/,
      ],
      [
        'a range is added',
        'nft add element inet weft masq4 { 203.0.113.5-203.0.113.77 }',
        /set masq4: 203.* not wanted/,
      ],
      ['a set is added', "nft add set inet weft more '{ type ipv4_addr; }'", /set more is not wanted/],
      ['the table sleeps', "nft 'table inet weft { flags dormant; }'", /flags/],
    ];
  }
  return [
    [
      'the tables are flushed',
      'for i in iptables ip6tables; do for t in filter nat; do $i -t $t -F; $i -t $t -X; done; done',
      /was missing/,
    ],
    ['a chain is flushed', 'iptables -F WEFT-ISOLATION', /chain WEFT-ISOLATION of table filter/],
    ['a jump is deleted', 'ip6tables -D FORWARD -j WEFT-FORWARD', /ip6tables.*jump to WEFT-FORWARD missing/],
    [
      'a rule is put before',
      'iptables -I FORWARD 1 -j RETURN; trap "iptables -D FORWARD -j RETURN" EXIT; iptables -D FORWARD -j WEFT-FORWARD; iptables -A FORWARD -j WEFT-FORWARD; iptables -A FORWARD -j WEFT-FORWARD',
      /jump to WEFT-FORWARD not in its place/,
    ],
    ['a rule is deleted', 'iptables -t nat -D WEFT-MASQUERADE 1', /chain WEFT-MASQUERADE of table nat/],
    ['a rule is added', 'iptables -I WEFT-FORWARD 1 -j ACCEPT', /not wanted/],
    [
      'a rule is changed and keeps its comment',
      `r=$(iptables-save -t filter | grep -m1 -e '-A WEFT-OVERLAYS' | sed 's/-A WEFT-OVERLAYS/-R WEFT-OVERLAYS 1/; s/DROP/ACCEPT/'); eval iptables $r`,
      /was changed/,
    ],
    ['a chain of our prefix is added', 'iptables -N WEFT-OLD; iptables -A INPUT -j WEFT-OLD', /WEFT-OLD/],
  ];
}
