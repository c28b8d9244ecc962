// dig in the hosts and containers of a lab, and a watcher for one name.
import { fileURLToPath } from 'node:url';

import { credentials } from '@grpc/grpc-js';

import { AgentServiceClient, type AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import type { Cluster } from './cluster.js';
import type { LabProcess } from './process.js';

/** A parsed answer of dig. */
export interface Dug {
  status: string;
  answers: { type: string; data: string; ttl: number }[];
  flags: string[];
  text: string;
}

/** @param words arguments of dig: the name, the type, @SERVER, options */
export async function dig(lab: Cluster, where: string, ...words: readonly string[]): Promise<Dug> {
  const { stdout } = await lab.try(where, `dig +tries=1 +time=6 ${words.join(' ')}`);
  const section = /;; ANSWER SECTION:\n((?:.+\n)*)/.exec(stdout)?.[1] ?? '';
  return {
    status: /status: (\w+)/.exec(stdout)?.[1] ?? 'none',
    flags: (/;; flags: ([a-z ]*);/.exec(stdout)?.[1] ?? '').split(' '),
    answers: section
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [, ttl = '', , type = '', ...data] = line.split(/\s+/);
        return { type, data: data.join(' '), ttl: Number(ttl) };
      }),
    text: stdout,
  };
}

/** The data of a name's records, in the order of the answer. */
export async function addressesOf(
  lab: Cluster,
  where: string,
  ...words: readonly string[]
): Promise<string[]> {
  return (await dig(lab, where, ...words)).answers.map(({ data }) => data);
}

/** Runs a program of the tests inside a namespace. */
export const program = (lab: Cluster, where: string, file: string, ...words: readonly string[]): string[] =>
  lab.place(where).inside([process.execPath, fileURLToPath(new URL(file, import.meta.url)), ...words]);

export interface Seen {
  /** Milliseconds of the wall clock. */
  at: number;
  there: boolean;
}

/** Starts a watcher that logs when the name starts and stops to resolve. */
export function watchName(lab: Cluster, where: string, server: string, name: string): LabProcess {
  return lab.lab.spawn(`watch-${where}-${name}`, program(lab, where, './name-watch.js', server, name));
}

export function seenBy(watcher: LabProcess): Seen[] {
  return watcher
    .log()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Seen);
}

/**
 * Calls a host’s agent directly, without a command around it. The name is an alias, which reaches etcd last. Each call
 * returns when it was done, in milliseconds of the wall clock.
 */
export function agentOf(
  lab: Cluster,
  host: string,
): {
  attach: (network: string, target: string, name: string) => Promise<number>;
  detach: (network: string, target: string) => Promise<number>;
  close: () => void;
} {
  const socket = lab.environment(host)['WEFT_AGENT'] ?? '';
  const client = new AgentServiceClient(`unix:${socket}`, credentials.createInsecure());
  const done = (call: (back: (error: Error | null) => void) => unknown): Promise<number> =>
    new Promise((resolve, reject) => {
      call((error) => (error === null ? resolve(Date.now()) : reject(error)));
    });
  return {
    attach: (network, target, name) => {
      const none = { ip: undefined, ip6: undefined, mac: undefined, ifname: undefined, vlan: undefined };
      const request: AttachRequest = {
        ...{
          network,
          target,
          name: undefined,
          aliases: [name],
          noDefaultRoute: false,
          publish: [],
          publishEverywhere: false,
          allowedAddresses: [],
          labels: {},
          dns: false,
        },
        ...none,
      };
      return done((back) => client.attach(request, back));
    },
    detach: (network, target) => done((back) => client.detach({ network, target }, back)),
    close: () => client.close(),
  };
}
