// A CNI request that is right, in all its parts: a seed for the fuzzer.

export const CNI_ENVIRONMENT = {
  command: 'ADD',
  id: 'c0ffee',
  netns: '/run/netns/c1',
  ifname: 'eth0',
  args: 'IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.100.5.9;MAC=02:00:00:00:00:2a;NOMAD_META={"a":"b=c"}',
  runtime: 'podman',
} as const;

export const CNI_CONF = {
  cniVersion: '1.1.0',
  name: 'blue',
  type: 'weft',
  network: 'blue',
  socket: '/run/weft/cni.sock',
  defaultRoute: true,
  ifMac: '02:00:00:00:00:2b',
  ipam: { type: 'weft', network: 'blue' },
  dns: { nameservers: ['192.0.2.53'], domain: 'example.com', search: ['example.com'], options: ['ndots:1'] },
  capabilities: { portMappings: true, ips: true },
  runtimeConfig: {
    portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '192.0.2.11' }],
    ips: ['10.100.5.9/24', 'fd42::9'],
    mac: '02:00:00:00:00:2c',
    aliases: { blue: ['db', 'c0ffee'] },
    dns: { Servers: ['192.0.2.53'], Searches: ['example.com'], Options: null },
    ipRanges: [[{ subnet: '10.100.0.0/16', rangeStart: '10.100.5.2', rangeEnd: '10.100.5.9', gateway: '' }]],
    bandwidth: { IngressRate: 0, EgressRate: 0 },
  },
  prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.100.5.9/24', interface: 2 }] },
  'cni.dev/valid-attachments': [{ containerID: 'c0ffee', ifname: 'eth0' }],
};

/** The form that the shim sends. */
export const cniForm = (environment: Record<string, string>, conf: string): string =>
  new URLSearchParams({ ...environment, conf }).toString();
