// What a network may need of a node's kernel beyond what weft cannot live without.
export type Need = 'bridge-vlan-filtering' | '802.1q';
