// Garbage in the state directory.
//
// Each file is read, or put aside with the reason, and what was read can be used. Files with one spoilt place get further than
// noise.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';

import { NetnsResolvConf } from '../../agent/dns/netns-resolv-conf.js';
import { InterfaceLoanFiles } from '../../agent/state/interface-loans.js';
import { ContainerState } from '../../agent/runtime/container-state.js';
import { PumpFiles } from '../../agent/state/pump-files.js';
import { State } from '../../agent/state/state.js';
import { AttachmentState } from '../../agent/pipework/attachment-state.js';
import { compileEndpoint, compileFirewall, compileNetwork } from '../../core/compile.js';
import { WeftError } from '../../core/errors.js';
import { compileHostInterface, compileAttachment } from '../../core/attachment.js';
import { silentLogger } from '../../daemon/log.js';
import { encodeConfig } from '../../store/network-codec.js';
import { endpoint, lease, membership, network } from '../kernel/samples.js';
import { patience, polluted, spoilt, text, times, unclear, word } from './garbage.js';

const ID = '0123456789abcdef';
const blue = network('blue', 4097, 100, true);
const onBlue = membership(blue);
const sandbox = { path: '/run/netns/c1', cookie: '1', bootId: 'b' };

const plain = (record: unknown): object => JSON.parse(JSON.stringify(record)) as object;

const SAMPLES = {
  network: plain({
    network: blue,
    lease: lease(blue, 1),
    granted: [{ ip: '10.100.1.77', node: 'node2', endpoint: 'fedcba9876543210' }],
  }),
  networkWithConfig: plain({
    ...{ network: blue, lease: lease(blue, 1), granted: [], config: encodeConfig(blue) },
    parent: { name: 'eth1', isBridge: false, mac: '02:00:00:00:00:01', mtu: 1500, native: 1 },
  }),
  endpoint: plain(
    endpoint(onBlue, ID, 2, '/run/netns/c1', {
      aliases: ['www'],
      publish: [{ hostIp: '0.0.0.0', hostPort: 8080, port: 80, protocol: 'tcp', everywhere: false }],
      vlan: 7,
    }),
  ),
  reservation: { id: ID, network: 'blue', ip: '10.100.1.5/24', createdAt: '2026-01-01T00:00:00.000Z' },
  formerSubnet: { whole: '10.100.0.0/16', subnet: '10.100.1.0/24', at: '2026-01-01T00:00:00.000Z' },
  attachment: {
    ...{
      id: ID,
      name: 'c1',
      target: 'netns:/run/netns/c1',
      sandbox,
      ifname: 'eth1',
      hostIfname: 'wfp0123456789',
    },
    ...{ mac: '02:00:00:00:00:01', address: '192.0.2.5/24', gateway: '192.0.2.1', vlan: 7 },
    place: { kind: 'nic', name: 'eth1', mac: '02:00:00:00:00:01', mtu: 1500, native: 1 },
  },
  place: { kind: 'bridge', name: 'br1', mtu: 1500, vlans: true, made: true },
  container: {
    ...{ id: ID, name: 'web', network: 'blue', command: ['sh'], directory: '/', environment: ['A=1'] },
    attachments: [
      {
        request: {
          ...{ network: 'blue', target: 'run:web', aliases: [], noDefaultRoute: false, publish: ['80:80'] },
          ...{ publishEverywhere: false, dns: false },
        },
        endpoint: ID,
        ip: '10.100.1.2/24',
      },
    ],
    ...{
      detached: true,
      remove: false,
      restart: 'always',
      stopped: false,
      bootId: 'b',
      exitCode: 3,
      restarts: 0,
    },
    process: { pid: 4711, start: '99' },
    ...{ createdAt: '2026-01-01T00:00:00Z', startedAt: '2026-01-01T00:00:00Z' },
  },
  port: {
    link: 'eth1',
    bridge: 'wfl-eth1',
    done: true,
    addresses: ['02180000010000000800010 0'.replace(' ', '')],
    routes: [],
  },
  pump: {
    ...{ link: 'wfud-blue', pid: 4711, startedAt: '99', at: 1_767_225_600_000, index: 7 },
    ...{ local: '192.0.2.1', port: 8285, version: '0.1.0' },
  },
  resolvConf: {
    before: { text: 'nameserver 192.0.2.53\n' },
    madeFolder: false,
    written: 'nameserver 10.100.1.1\n',
  },
} satisfies Record<string, object>;

const like = (...samples: readonly object[]): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 4, arbitrary: fc.oneof(...samples.map(spoilt)).map((one) => JSON.stringify(one) ?? '') },
    { weight: 1, arbitrary: text },
  );

/** Runs with a fresh folder. */
function folders(t: ExecutionContext): (work: (folder: string) => void) => void {
  const root = mkdtempSync(join(tmpdir(), 'weft-fuzz-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  let n = 0;
  return (work) => {
    const folder = join(root, `${++n}`);
    mkdirSync(folder);
    work(folder);
    rmSync(folder, { recursive: true });
  };
}

function write(folder: string, file: string, written: string): string {
  const path = join(folder, file);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, written);
  return path;
}

/** One file was written: it is either read, or put aside with a reason. */
function readOrAside(
  t: ExecutionContext,
  read: number,
  torn: readonly { path: string; why: string }[],
): void {
  t.is(read + torn.length, 1);
  for (const { path, why } of torn) {
    t.true(existsSync(path));
    t.true(why.trim() !== '' && unclear(why) === undefined, why);
  }
}

test('networks, endpoints, reservations, the instance and the underlay', (t) => {
  t.timeout(patience(60));
  const inFolder = folders(t);
  const files = fc.tuple(
    like(SAMPLES.network, SAMPLES.networkWithConfig),
    like(SAMPLES.endpoint),
    like(SAMPLES.reservation),
    like(SAMPLES.formerSubnet),
    word,
  );
  fc.assert(
    fc.property(files, ([ofNetwork, ofEndpoint, ofReservation, ofFormerSubnet, ofInstance]) =>
      inFolder((folder) => {
        write(folder, 'networks/blue.json', ofNetwork);
        write(folder, `endpoints/${ID}.json`, ofEndpoint);
        write(folder, `reservations/${ID}.json`, ofReservation);
        write(folder, 'former-subnets/10.100.0.0-16.json', ofFormerSubnet);
        write(folder, 'instance', ofInstance);
        write(folder, 'underlay', ofInstance);
        const first = new State(folder);
        t.notThrows(() => first.underlay());
        const loaded = first.load();
        t.regex(loaded.instance, /^[0-9a-f-]{36}$/);
        const aside = (kind: string) => loaded.torn.filter((file) => file.kind === kind);
        readOrAside(t, loaded.networks.length, aside('network'));
        readOrAside(t, loaded.endpoints.length, aside('endpoint'));
        readOrAside(t, loaded.reservations.length, aside('reservation'));
        const former = first.formerSubnet(blue.subnet);
        readOrAside(t, former === undefined ? 0 : 1, aside('former subnet'));
        // As the agent uses them before it asks etcd or the kernel.
        for (const saved of loaded.networks) {
          const member = { ...onBlue, ...saved };
          compileNetwork(member);
          compileFirewall([member], [member.network]);
          t.is(saved.network.name, 'blue');
        }
        for (const one of loaded.endpoints) {
          compileEndpoint(onBlue, one);
          t.is(one.id, ID);
        }
        // And it is unchanged after a rewrite.
        const state = new State(folder);
        for (const one of loaded.endpoints) state.saveEndpoint(one);
        for (const one of loaded.networks) state.saveNetwork(one);
        const again = state.load();
        t.deepEqual(plain(again.endpoints), plain(loaded.endpoints));
        t.deepEqual(plain(again.networks), plain(loaded.networks));
      }),
    ),
    { numRuns: times(600), includeErrorInReport: true },
  );
  t.deepEqual(polluted(), []);
});

test('pipework attachments and their host interfaces', (t) => {
  t.timeout(patience(60));
  const inFolder = folders(t);
  fc.assert(
    fc.property(
      like(SAMPLES.attachment),
      like(SAMPLES.place, SAMPLES.attachment.place),
      (ofAttachment, ofHostInterface) =>
        inFolder((folder) => {
          write(folder, `wires/${ID}.json`, ofAttachment);
          write(folder, 'wire-places/br1.json', ofHostInterface);
          const torn: { path: string; why: string }[] = [];
          const { attachments, hostInterfaces } = new AttachmentState(folder).load((path, why) =>
            torn.push({ path, why }),
          );
          const aside = (part: string) => torn.filter(({ path }) => path.startsWith(join(folder, part)));
          readOrAside(t, attachments.length, aside('wires/'));
          readOrAside(t, hostInterfaces.length, aside('wire-places/'));
          for (const attachment of attachments) {
            compileAttachment(attachment);
            t.is(attachment.id, ID);
          }
          for (const hostInterface of hostInterfaces) {
            compileHostInterface(hostInterface);
            t.is(hostInterface.name, 'br1');
          }
        }),
    ),
    { numRuns: times(600), includeErrorInReport: true },
  );
});

test('containers', (t) => {
  t.timeout(patience(60));
  const inFolder = folders(t);
  fc.assert(
    fc.property(like(SAMPLES.container), word, (written, number) =>
      inFolder((folder) => {
        write(folder, `containers/${ID}.json`, written);
        write(folder, `run/containers/${ID}/exit`, number);
        const state = new ContainerState(folder, join(folder, 'run'));
        const { records, torn } = state.load();
        readOrAside(t, records.length, torn);
        for (const { id, process } of records) {
          t.is(id, ID);
          t.true(process === undefined || (Number.isInteger(process.pid) && process.pid > 1));
        }
        const code = state.exitCode(ID);
        t.true(code === undefined || Number.isInteger(code));
      }),
    ),
    { numRuns: times(600), includeErrorInReport: true },
  );
});

test('pumps: read, or put aside', (t) => {
  t.timeout(patience(60));
  const inFolder = folders(t);
  fc.assert(
    fc.property(like(SAMPLES.pump), (written) =>
      inFolder((folder) => {
        const path = write(folder, 'wfud-blue.json', written);
        const read = new PumpFiles(folder).list();
        t.true(read.every(({ link, pid }) => link === 'wfud-blue' && pid > 1));
        t.is(read.length, existsSync(`${path}.torn`) ? 0 : 1);
      }),
    ),
    { numRuns: times(600), includeErrorInReport: true },
  );
});

test('loans of host links: read, or refused with the file’s name and kept', (t) => {
  t.timeout(patience(60));
  const inFolder = folders(t);
  fc.assert(
    fc.property(like({ ...SAMPLES.port, bootId: 'b' }), (written) =>
      inFolder((folder) => {
        const path = write(folder, 'ports/eth1.json', written);
        try {
          const loans = new InterfaceLoanFiles(folder, 'b');
          t.true(loans.list().every(({ link }) => link === 'eth1'));
          t.is(existsSync(path), loans.list().length === 1);
        } catch (error) {
          if (!(error instanceof WeftError)) throw error;
          t.true(error.message.includes(path) && unclear(error.message) === undefined, error.message);
          t.is(readFileSync(path, 'utf8'), Buffer.from(written).toString());
        }
      }),
    ),
    { numRuns: times(600), includeErrorInReport: true },
  );
});

test('notes of a saved resolv.conf: carried out, or put aside with a line of log', (t) => {
  t.timeout(patience(60));
  const inFolder = folders(t);
  const OWN = SAMPLES.resolvConf.written;
  fc.assert(
    fc.property(like(SAMPLES.resolvConf), (written) =>
      inFolder((folder) => {
        const note = write(folder, 'state/resolv-conf/c1.json', written);
        const file = write(folder, 'netns/c1/resolv.conf', OWN);
        const warned: object[] = [];
        const log = {
          ...silentLogger,
          warn: (_text: string, about?: object) => void warned.push(about ?? {}),
        };
        new NetnsResolvConf({ stateDir: join(folder, 'state'), log, folder: join(folder, 'netns') }).keepOnly(
          [],
        );
        // The note is handled: the next start finds none, and nothing was lost.
        t.false(existsSync(note));
        if (existsSync(`${note}.torn`)) {
          t.is(readFileSync(file, 'utf8'), OWN);
          t.true(warned.length > 0);
        }
      }),
    ),
    { numRuns: times(500), includeErrorInReport: true },
  );
});
