// CNI plugin: containers of podman, containerd, nerdctl, CRI-O and Nomad on weft's networks.
//
// Runtimes start a shim (bin/weft-cni), which asks here by HTTP: environment and configuration in, the runtime's answer out.
// Status 200 is success; the shim prints what it gets.
import { messageOf, WeftError } from '../../core/errors.js';
import type { Change, HttpAnswer, HttpRequest } from '../../daemon/http-socket.js';
import type { MountedPlugin, Plugin, PluginHost } from '../../daemon/plugin-host.js';
import { Attachments } from './attachments.js';
import { ChainedMac } from './chained-mac.js';
import { CniError, CODE, errorBody } from './errors.js';
import { Ipam } from './ipam.js';
import { parseRequest, versionIn, type CniRequest } from './request.js';

export const cni = { manager: 'cni', settings: {}, mount } satisfies Plugin;

/** Runtimes wait as long as it takes, and podman starts nothing else meanwhile. */
const ANSWER_MS = 30_000;

function mount(host: PluginHost): Promise<MountedPlugin> {
  const ipam = new Ipam(host);
  const chainedMac = new ChainedMac(host);
  const attachments = new Attachments(host, chainedMac);
  // Another plugin's configuration, which asks for addresses alone.
  const partOf = ({ conf }: CniRequest): Ipam | Attachments =>
    conf.ipam?.type === 'weft' && conf.type !== 'weft' ? ipam : attachments;
  host.route('cni', (request) => answer(host, partOf, request));
  void chainedMac.resume();
  return Promise.resolve({
    stop: () => {
      ipam.stop();
      chainedMac.stop();
      return Promise.resolve();
    },
  });
}

async function answer(
  { log }: PluginHost,
  partOf: (request: CniRequest) => Ipam | Attachments,
  { body, signal }: HttpRequest,
): Promise<HttpAnswer> {
  const began = performance.now();
  const late = AbortSignal.timeout(ANSWER_MS);
  let about: object = {};
  let change: Change | undefined;
  try {
    const request = parseRequest(body);
    about = { command: request.command, ...request.id };
    change = changeOf(request);
    const result = await run(partOf(request), request, AbortSignal.any([signal, late]));
    log.debug('a CNI runtime asked', { ...about, ms: Math.round((performance.now() - began) * 100) / 100 });
    return { status: 200, ...(result !== undefined && { body: result }), ...(change && { change }) };
  } catch (error) {
    const told = late.aborted ? tooLate() : error;
    log.warn('a request of a CNI runtime failed', { ...about, error: messageOf(told) });
    const isExpected = told instanceof WeftError || told instanceof CniError || signal.aborted;
    if (!isExpected) log.error('a fault in weft', { ...about, error });
    const failure = errorBody(told, versionIn(body));
    return { status: 400, body: failure, ...(change && { change: { ...change, why: failure.msg } }) };
  }
}

/** A change that the call asks for: CHECK repairs what is there already. */
const changeOf = ({ command, id }: CniRequest): Change | undefined =>
  command === 'CHECK' || command === 'STATUS'
    ? undefined
    : { method: `cni ${command}`, object: { network: id.network, id: id.containerId, ifname: id.ifname } };

const tooLate = (): CniError =>
  new CniError(
    CODE.tryLater,
    `it could not be done within ${ANSWER_MS / 1000} seconds`,
    'See weft status; what was done is undone.',
  );

async function run(
  part: Ipam | Attachments,
  request: CniRequest,
  signal: AbortSignal,
): Promise<object | undefined> {
  switch (request.command) {
    case 'ADD':
      return part.add(request, signal);
    case 'DEL':
      await part.delete(request);
      return undefined;
    case 'CHECK':
      await part.check(request);
      return undefined;
    case 'STATUS':
      await part.status(request);
      return undefined;
    case 'GC':
      await part.collect(request);
      return undefined;
  }
}
