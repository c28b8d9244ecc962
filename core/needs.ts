// Optional kernel capabilities that a network may need of a node.
export type Need = 'bridge-vlan-filtering' | '802.1q' | 'wireguard' | 'tun' | 'ipip';
