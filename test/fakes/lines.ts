// Kernel objects as lines of text, close to `ip -d` and `bridge`.
//
// So that a test can show what it expects.
import type { KernelObject, LinkObject } from '../../core/objects/index.js';

/** One object as one line. */
export function lineOf(object: KernelObject): string {
  switch (object.kind) {
    case 'link':
      return `link ${object.name} ${linkDetails(object)}`.trimEnd();
    case 'address':
      return `addr ${object.address} dev ${object.link}`;
    case 'route': {
      const to = object.to === '0.0.0.0/0' ? 'default' : object.to === '::/0' ? 'default6' : object.to;
      if (object.unreachable === true) return `route unreachable ${to}`;
      const via = object.via === undefined ? '' : ` via ${object.via}`;
      const src = object.src === undefined ? '' : ` src ${object.src}`;
      const mtu = object.mtu === undefined ? '' : ` mtu ${object.mtu}`;
      return `route ${to}${via} dev ${object.link}${object.onlink === true ? ' onlink' : ''}${src}${mtu}`;
    }
    case 'neighbour':
      return `neigh ${object.ip} lladdr ${object.mac} dev ${object.link}`;
    case 'proxy':
      return `neigh proxy ${object.ip} dev ${object.link}`;
    case 'fdb':
      return `fdb ${object.mac} dst ${object.dst} dev ${object.link}`;
    case 'port-mac':
      return `fdb ${object.mac} dev ${object.link} master ${object.bridge} sticky`;
    case 'wireguard-key':
      return `wg ${object.link} listen-port ${object.port} key of ${object.publicKey}`;
    case 'wireguard-peer': {
      const psk = object.psk === undefined ? '' : ' preshared-key';
      const keepalive = object.keepalive === 0 ? '' : ` persistent-keepalive ${object.keepalive}`;
      return `wg ${object.link} peer ${object.publicKey} endpoint ${object.endpoint ?? 'heard'}${psk}${keepalive}`;
    }
    case 'wireguard-prefix':
      return `wg ${object.link} peer ${object.publicKey} allowed-ips ${object.to}`;
    case 'pump':
      return `pump ${object.link} local ${object.local} port ${object.port}${object.fou === true ? ' fou' : ''}${object.outdated === true ? ' outdated' : ''}`;
    case 'pump-prefix':
      return `pump ${object.link} peer ${object.via} prefix ${object.to}`;
    case 'port':
      return `port ${object.link} master ${object.master}`;
    case 'vlan':
      return `vlan ${object.vlan}${object.untagged === true ? ' pvid untagged' : ''} dev ${object.link}${object.link === object.bridge ? ' self' : ''}`;
    case 'sysctl':
      return `sysctl ${object.path}=${object.value}`;
  }
}

function linkDetails(link: LinkObject): string {
  const alias = 'alias' in link && link.alias !== '' ? ` alias "${link.alias}"` : '';
  switch (link.type) {
    case 'bridge':
      return `bridge address ${link.mac} mtu ${link.mtu}${link.vlans === true ? ' vlan_filtering 1' : ''}${alias}`;
    case 'vlan':
      return `vlan id ${link.vlan} link ${link.base} mtu ${link.mtu}${alias}`;
    case 'vxlan':
      return `vxlan id ${link.vni} local ${link.local} dstport ${link.port} address ${link.mac} mtu ${link.mtu}${alias}`;
    case 'ipip':
      return `ipip local ${link.local} remote ${link.remote ?? 'any'}${link.fou === undefined ? '' : ` encap fou ${link.fou}`} mtu ${link.mtu}${alias}`;
    case 'tun':
      return `tun mtu ${link.mtu}${alias}`;
    case 'wireguard':
      return `wireguard mtu ${link.mtu}${alias}`;
    case 'veth': {
      const peer = link.peer.name === '' ? '' : ` peer ${link.peer.name} ${link.peer.mac}`;
      const vlan = link.vlan === undefined ? '' : ` vlan ${link.vlan}`;
      const hairpin = link.hairpin === true ? ' hairpin' : '';
      return `veth master ${link.master === '' ? 'none' : link.master}${vlan}${hairpin} mtu ${link.mtu}${peer}${alias}`;
    }
    case 'peer':
      return `peer address ${link.mac} mtu ${link.mtu}`;
    case 'loopback':
      return 'loopback';
  }
}

/** Objects in the order given, one line each. */
export const linesOf = (objects: Iterable<KernelObject>): string[] => [...objects].map(lineOf);
