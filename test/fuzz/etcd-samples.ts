// A valid key and value of each kind in etcd: seeds for the fuzzer.
//
// Garbage made of these gets past the first checks.
import { IpAddress } from '../../core/address.js';
import { encodeLease } from '../../store/lease-codec.js';
import { encodeConfig } from '../../store/network-codec.js';
import {
  encodeClaim,
  encodeEndpoint,
  encodeNode,
  encodeOwnName,
  encodeRemoval,
} from '../../store/record-codec.js';
import { endpoint, lease, membership, network } from '../kernel/samples.js';

const ID = '0123456789abcdef';
const at = '2026-01-01T00:00:00Z';

/** @param name the network of all records; @param node the owner of the others */
export function etcdSamples(name: string, node: string): (readonly [key: string, value: string])[] {
  const own = network(name, 4999, 177, true);
  return [
    [`networks/${name}/config`, encodeConfig(own)],
    [
      `networks/${name}/config`,
      '{"Network":"10.9.0.0/24","Backend":{"Type":"weft-vlan"},"Weft":{"VLAN":7,"AllowVLAN":"7,9-12","Parent":"eth9"}}',
    ],
    [`networks/${name}/subnets/10.177.5.0-24`, encodeLease(lease(own, 5))],
    [`networks/${name}/subnets/10.177.5.0-24&fd42-177-0-5---64`, encodeLease(lease(own, 5))],
    [`networks/${name}/endpoints/${ID}`, encodeEndpoint(endpoint(membership(own), ID, 2, '/run/netns/c9'))],
    [
      `networks/${name}/claims/10.177.5.9`,
      encodeClaim({ network: name, ip: IpAddress.parse('10.177.5.9'), node, endpoint: ID, state: 'granted' }),
    ],
    [
      `networks/${name}/dns/www`,
      encodeOwnName({ network: name, name: 'www', ips: [IpAddress.parse('192.0.2.7')], createdAt: at }),
    ],
    [
      `nodes/${node}`,
      encodeNode({ name: node, instance: 'i', publicIp: '192.0.2.77', version: '1', startedAt: at }),
    ],
    [`nodes/${node}/alive`, 'i'],
    [`removed/networks/${name}`, encodeRemoval({ kind: 'network', name, at, forced: false })],
    [`removed/nodes/${node}`, encodeRemoval({ kind: 'node', name: node, at, forced: true })],
  ];
}
