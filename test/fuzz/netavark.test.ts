// Garbage in every part of a call of podman's to the netavark plugin.
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';

import { WeftError } from '../../core/errors.js';
import { parseRequest } from '../../plugin/netavark/request.js';
import { patience, polluted, spoilt, text, times, unclear, word } from './garbage.js';

const SETUP = {
  container_id: 'c0ffee',
  container_name: 'web',
  port_mappings: [
    { container_port: 80, host_ip: '192.0.2.11', host_port: 8080, protocol: 'tcp,udp', range: 2 },
  ],
  network: {
    ...{ name: 'blue', id: 'b', driver: 'weft', internal: false },
    subnets: [{ subnet: '10.9.0.0/16', gateway: '10.9.0.1', lease_range: { start_ip: '10.9.0.2' } }],
    options: { mtu: '1400' },
  },
  network_options: {
    ...{ aliases: ['db', 'c0ffee'], interface_name: 'eth0', static_ips: ['10.9.0.5'] },
    static_mac: '02:00:00:00:00:2a',
  },
};

const form = (conf: string, command = 'setup', netns = '/run/netns/c1'): string =>
  new URLSearchParams({ command, netns, runtime: 'podman', conf }).toString();

/** @returns whether it was refused */
function judge(t: ExecutionContext, body: string): boolean {
  try {
    const request = parseRequest(body);
    if (request.command !== 'create') t.regex(request.container.name, /^[^\0/]+$/);
    return false;
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    t.is(error.code, 'INVALID_ARGUMENT');
    t.is(unclear(error.message), undefined, error.message);
    return true;
  }
}

for (const [what, bodies] of [
  ['a call with one spoilt place', spoilt(SETUP).map((conf) => form(JSON.stringify(conf) ?? ''))],
  [
    'a network with one spoilt place',
    spoilt(SETUP.network).map((conf) => form(JSON.stringify(conf) ?? '', 'create')),
  ],
  ['standard input that is none', text.map((conf) => form(conf))],
  [
    'other commands and namespaces',
    fc.tuple(word, word).map((words) => form(JSON.stringify(SETUP), ...words)),
  ],
] as const) {
  test(what, (t) => {
    t.timeout(patience(60));
    t.false(judge(t, form(JSON.stringify(SETUP))));
    let refused = 0;
    fc.assert(
      fc.property(bodies, (body) => {
        if (judge(t, body)) refused++;
      }),
      { numRuns: times(1000), includeErrorInReport: true },
    );
    t.true(refused > 20, `${refused} were refused`);
    t.deepEqual(polluted(), []);
  });
}
