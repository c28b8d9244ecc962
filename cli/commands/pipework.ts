// weft pipework: the command line of pipework, for scripts that use it.
//
// It asks this host's agent alone: pipework needs nothing but its host.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import type { Command } from 'commander';

import { notFound } from '../../core/errors.js';
import { parsePipework, PIPEWORK_SYNTAX, type PipeworkAttach } from '../../core/pipework.js';
import type { PipeworkAttachment } from '../../proto/gen/weft/v1/agent.js';
import { READ_MS, WRITE_MS, type Connector } from '../connect.js';
import type { Action } from '../action.js';
import { listing, type Result } from '../output.js';
import { notSilently } from '../waiting.js';

const SYS = '/sys/class/net';

/** pipework's own interval. */
const LOOK_EVERY_MS = 200;

export function pipeworkCommand(program: Command, action: Action): void {
  program
    .command('pipework')
    .description('put a container on a bridge or NIC of this host, in the words of pipework')
    .argument('[words...]', 'as pipework has them')
    .usage('HOSTIF [-i IF] [-l IF] [-a 4|6] GUEST IP/LEN[@GATEWAY]|0/0 [MAC|U:TEXT][@VLAN]')
    // pipework's options stand between its arguments, and their position matters.
    .allowUnknownOption()
    .addHelpText('after', () =>
      [
        '',
        ...PIPEWORK_SYNTAX.map((line) => `  ${line}`),
        '',
        'Examples:',
        '  weft pipework br1 c1 192.0.2.5/24@192.0.2.1',
        '  weft pipework ovs0 c1 10.1.1.1/24 @100',
        '  weft pipework eth1 -i eth0 c1 10.1.1.1/24 U:c1@100',
      ].join('\n'),
    )
    .action((words: string[], ...rest: unknown[]) =>
      action(({ connect }) => pipework(connect, words))(words, ...rest),
    );
}

async function pipework(connect: Connector, words: readonly string[]): Promise<Result> {
  const call = parsePipework(words);
  switch (call.do) {
    case 'wait':
      await notSilently(`a carrier on ${call.ifname}`, () => carrierOf(call.ifname));
      return { value: null, text: () => '' };
    case 'list': {
      const { attachments } = await connect.agent(
        'AgentService',
        (client) => client.listPipework,
        {},
        READ_MS,
      );
      return attachmentList(attachments);
    }
    case 'detach': {
      const { guest, ifname } = call;
      const request = { hostInterface: nameOf(call.host), target: guest, ifname };
      return shown(await connect.agent('AgentService', (client) => client.pipeworkDetach, request, WRITE_MS));
    }
    case 'attach': {
      const { host, guest, ifname, hostIfname, address, gateway, mac, vlan, force = false } = call;
      const request = {
        hostInterface: nameOf(host),
        target: guest,
        ...{ ifname, hostIfname, address, gateway, mac, vlan, force },
      };
      return shown(await connect.agent('AgentService', (client) => client.pipework, request, WRITE_MS));
    }
  }
}

/** Silent for people, as pipework is. */
const shown = (attachment: PipeworkAttachment): Result => ({ value: shapeOf(attachment), text: () => '' });

function shapeOf(attachment: PipeworkAttachment): object {
  const { address = null, gateway = null, vlan = null, ...rest } = attachment;
  return { ...rest, address, gateway, vlan };
}

const attachmentList = (attachments: readonly PipeworkAttachment[]): Result =>
  listing(attachments, {
    shape: shapeOf,
    name: ({ target }) => target,
    columns: {
      HOSTIF: ({ hostInterface }) => hostInterface,
      TARGET: ({ target }) => target,
      IFNAME: ({ ifname }) => ifname,
      ADDRESS: ({ address }) => address ?? '',
      GATEWAY: ({ gateway }) => gateway ?? '',
      VLAN: ({ vlan }) => vlan ?? '',
      MAC: ({ mac }) => mac,
      'HOST IFNAME': ({ hostIfname }) => hostIfname,
    },
  });

/** Waits until an interface of the namespace that this runs in has a carrier. */
async function carrierOf(ifname: string): Promise<void> {
  for (; ; await delay(LOOK_EVERY_MS)) {
    try {
      if (readFileSync(join(SYS, ifname, 'carrier'), 'utf8').trim() === '1') return;
    } catch {
      // It does not exist yet, or is down: its carrier cannot be read then (EINVAL).
    }
  }
}

/** @throws WeftError NOT_FOUND for a MAC address that no interface has */
function nameOf(host: PipeworkAttach['host']): string {
  if ('name' in host) return host.name;
  const found = readdirSync(SYS).find((name) => {
    try {
      return readFileSync(join(SYS, name, 'address'), 'utf8').trim() === host.mac;
    } catch {
      // bonding_masters is a plain file in this directory, and links come and go.
      return false;
    }
  });
  if (found !== undefined) return found;
  throw notFound(`pipework: no interface of this host has the MAC address ${host.mac}`, 'See `ip link`.');
}
