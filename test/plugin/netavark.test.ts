// podman's calls of the netavark plugin: what a container asks for, and what is too much.
import test from 'ava';

import type { WeftError } from '../../core/errors.js';
import { parseRequest, type Container } from '../../plugin/netavark/request.js';

function setup(options: object = {}, port_mappings: object[] = []): Container {
  const conf = {
    ...{ container_id: 'c0ffee', container_name: 'web', port_mappings, network: { name: 'blue' } },
    network_options: { interface_name: 'eth0', ...options },
  };
  const request = parseRequest(
    new URLSearchParams({ command: 'setup', conf: JSON.stringify(conf) }).toString(),
  );
  if (request.command === 'create') throw new Error('it is a setup');
  return request.container;
}

const port = (changes: object): object => ({
  ...{ container_port: 80, host_ip: '', host_port: 8080, protocol: 'tcp', range: 1, ...changes },
});

test('ports come as ranges and lists of protocols', (t) => {
  const { publish } = setup({}, [port({ range: 2, protocol: 'tcp,udp' }), port({ host_port: 0 })]);
  t.deepEqual(
    publish.map(({ hostPorts, port: to, protocol }) => [hostPorts?.first, to, protocol]),
    [
      [8080, 80, 'tcp'],
      [8081, 81, 'tcp'],
      [8080, 80, 'udp'],
      [8081, 81, 'udp'],
    ],
  );
  for (const [changes, words] of [
    [{ protocol: 'sctp' }, /sctp/],
    [{ host_ip: 'here' }, /host_ip: "here" is not an IP address/],
    [{ host_port: 65_535, range: 2 }, /the port 65536 is too high/],
  ] as const)
    t.throws<WeftError>(() => setup({}, [port(changes)]), { message: words });
});

test('few words that stand for very many ports are refused before they are counted out', (t) => {
  const protocol = 'tcp,'.repeat(500_000);
  const error = t.throws<WeftError>(() => setup({}, [port({ range: 65_535, protocol })]));
  t.is(error.code, 'INVALID_ARGUMENT');
  t.regex(error.message, /32767565535 ports are too many/);
});

test('one address of a family, and as many aliases as a record has room for', (t) => {
  const { ip, ip6 } = setup({ static_ips: ['10.9.0.5', 'fd42::5'] });
  t.deepEqual([ip?.toString(), ip6?.toString()], ['10.9.0.5', 'fd42::5']);
  t.throws(() => setup({ static_ips: ['10.9.0.5', '10.9.0.6'] }), { message: /two IPv4/ });
  t.deepEqual(setup({ aliases: ['db', 'no way'] }).aliases, ['db']);
  t.throws(() => setup({ aliases: Array.from({ length: 257 }, (_, n) => `a${n}`) }), {
    message: /257 aliases are too many/,
  });
});
