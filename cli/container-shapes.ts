// Shapes of containers: for `-o json`, and as tables.
import type { Container } from '../proto/gen/weft/v1/runtime.js';
import { listing, relative, type Result } from './output.js';
import { endpointShape } from './shapes.js';

export const containerShape = (it: Container): object => ({
  id: it.id,
  name: it.name,
  network: it.network,
  state: it.state === '' ? 'removed' : it.state,
  pid: it.pid ?? null,
  exitCode: it.exitCode ?? null,
  command: it.command,
  restart: it.restart,
  restarts: it.restarts,
  rm: it.remove,
  detached: it.detached,
  createdAt: it.createdAt,
  startedAt: it.startedAt,
  finishedAt: it.finishedAt ?? null,
  log: it.log === '' ? null : it.log,
  error: it.error === '' ? null : it.error,
  endpoints: it.endpoints.map(endpointShape),
});

export const NO_CONTAINER: Container = {
  ...{ id: '', name: '', network: '', state: '', command: [], restart: '', remove: false, detached: false },
  ...{ restarts: 0, createdAt: '', startedAt: '', log: '', endpoints: [], launch: undefined, error: '' },
};

/** The keys of an endpoint, for containers without one. */
const NO_ENDPOINT = {
  id: null,
  node: null,
  ifname: null,
  hostIfname: null,
  mac: null,
  ip: null,
  ip6: null,
  gateway: null,
  mtu: null,
  vlan: null,
  aliases: [],
  publish: [],
  manager: null,
  labels: {},
};

/** Output of `weft run -d`: the endpoint in its usual shape, and the container. */
export function runShape(it: Container, { asTable }: { asTable: boolean }): Result {
  const [endpoint] = it.endpoints;
  const value = {
    ...(endpoint === undefined
      ? { ...NO_ENDPOINT, name: it.name, network: it.network, target: `run:${it.name}` }
      : endpointShape(endpoint)),
    container: containerShape(it),
  };
  return { value, text: () => (asTable ? it.name : JSON.stringify(value, undefined, 2)) };
}

export const containerList = (containers: readonly Container[]): Result =>
  listing(containers, {
    shape: containerShape,
    name: ({ name }) => name,
    columns: {
      ID: ({ id }) => id.slice(0, 12),
      NAME: ({ name }) => name,
      NETWORK: ({ network }) => network,
      STATE: stateOf,
      PID: ({ pid }) => pid ?? '',
      IP: ({ endpoints }) => endpoints.flatMap(({ ip, ip6 }) => [ip, ip6].filter(Boolean)).join(' '),
      CREATED: ({ createdAt }) => relative(createdAt),
      COMMAND: ({ command }) => shortened(command.join(' ')),
    },
  });

function stateOf(it: Container): string {
  if (it.state !== 'exited') return it.state;
  return it.exitCode === undefined ? 'exited (unseen)' : `exited (${it.exitCode})`;
}

const shortened = (text: string): string => {
  // A script given as an argument has line breaks and tabs.
  const plain = text.replace(/[^\x20-\x7e\u00a0-\uffff]+/g, ' ');
  return plain.length > 40 ? `${plain.slice(0, 39)}…` : plain;
};
