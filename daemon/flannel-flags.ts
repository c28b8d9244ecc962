// Flags of flanneld, and what does the same here.

/** Without their dashes. */
const FLAGS: Readonly<Record<string, string>> = {
  'etcd-endpoints': '--etcd',
  'etcd-prefix': '--prefix (weft’s is /weft, and a flannel network is /weft/networks/NAME)',
  'etcd-cafile': '--etcd-ca',
  'etcd-certfile': '--etcd-cert',
  'etcd-keyfile': '--etcd-key',
  iface: '--underlay-iface',
  'iface-regex': '--underlay-iface',
  'iface-can-reach': '--underlay-ip',
  'ip-masq': 'nothing: networks masquerade unless made with --no-masquerade',
  'subnet-file': '--run-dir: the file is RUN-DIR/subnets/NETWORK.env',
  'subnet-lease-renew-margin': '--subnet-ttl',
  'healthz-ip': '--http',
  'healthz-port': '--http',
  'iptables-resync': 'nothing: rules are compared all the time',
  'iptables-forward-rules': 'nothing: weft accepts what its networks forward',
  'kube-subnet-mgr': 'etcd: weft keeps its records there',
};

/** @param flag with or without its dashes, as flanneld takes it */
export function flannelFlag(flag: string): string | undefined {
  const same = FLAGS[flag.replace(/^-+/, '').replace(/=.*/, '')];
  return same === undefined ? undefined : `flanneld’s ${flag.replace(/=.*/, '')} is here ${same}.`;
}
