// A client of the plugin socket that behaves as Docker's engine.
//
// It sends Docker's requests and configures a sandbox by the answer of Join as Docker does. For requests that the installed
// engine does not send: those of newer engines, and broken ones.
import { request } from 'node:http';
import { connect } from 'node:net';

import type { Namespace } from '../lab/lab.js';

export interface Answer {
  status: number;
  headers: Record<string, unknown>;
  body: Record<string, unknown> & { Err?: string; Error?: string };
}

export class PluginClient {
  constructor(readonly socketPath: string) {}

  /** Sends one request; a string is sent verbatim. */
  ask(method: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const text = typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const call = request(
        {
          socketPath: this.socketPath,
          method: 'POST',
          path: `/${method}`,
          // As the Go client of Docker 20.10 writes it.
          headers: { host: '', accept: 'application/vnd.docker.plugins.v1.2+json', ...headers },
          timeout: 20_000,
        },
        (response) => {
          let got = '';
          response.setEncoding('utf8').on('data', (part: string) => (got += part));
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: JSON.parse(got === '' ? '{}' : got) as Answer['body'],
            }),
          );
        },
      );
      call.on('timeout', () => call.destroy(new Error(`${method}: no answer`)));
      call.on('error', reject);
      call.end(text);
    });
  }

  /** As `ask`. @throws Error where the request fails */
  async must<T = Record<string, unknown>>(method: string, body?: unknown): Promise<T> {
    const { status, body: answer } = await this.ask(method, body);
    if (status !== 200 || (answer.Err ?? '') !== '' || (answer.Error ?? '') !== '') {
      throw new Error(`${method}: ${status} ${JSON.stringify(answer)}`);
    }
    return answer as T;
  }

  /** Sends raw bytes and drops the connection. */
  half(bytes: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.socketPath, () => socket.write(bytes, () => socket.destroy()));
      socket.on('close', () => resolve());
      socket.on('error', reject);
    });
  }
}

export interface JoinAnswer {
  InterfaceName: { SrcName: string; DstPrefix: string };
  Gateway?: string;
  GatewayIPv6?: string;
  StaticRoutes: { Destination: string; RouteType: number; NextHop?: string }[];
  DisableGatewayService?: boolean;
}

/** Configures a sandbox after Join as Docker does: moves the link inside, names and configures it. */
export async function enterSandbox(
  host: Namespace,
  sandbox: Namespace,
  answer: JoinAnswer,
  { address, address6, mac, index = 0 }: { address: string; address6?: string; mac: string; index?: number },
): Promise<string> {
  const { SrcName, DstPrefix } = answer.InterfaceName;
  const name = `${DstPrefix}${index}`;
  await host.must(['ip', 'link', 'set', SrcName, 'netns', sandbox.namespace]);
  await sandbox.must(['ip', 'link', 'set', SrcName, 'name', name, 'address', mac]);
  await sandbox.must(['ip', 'address', 'add', address, 'dev', name]);
  if (address6 !== undefined) await sandbox.must(['ip', 'address', 'add', address6, 'dev', name, 'nodad']);
  await sandbox.must(['ip', 'link', 'set', 'lo', 'up']);
  await sandbox.must(['ip', 'link', 'set', name, 'up']);
  const connected = answer.StaticRoutes.filter((route) => route.RouteType === 1);
  const via = answer.StaticRoutes.filter((route) => route.RouteType === 0);
  for (const { Destination } of connected)
    await sandbox.must(['ip', 'route', 'add', Destination, 'dev', name, 'scope', 'link']);
  for (const gateway of [answer.Gateway, answer.GatewayIPv6])
    if (gateway !== undefined)
      await sandbox.must([
        'ip',
        'route',
        'add',
        gateway.includes(':') ? '::/0' : '0.0.0.0/0',
        'via',
        gateway,
      ]);
  for (const { Destination, NextHop = '' } of via)
    await sandbox.must(['ip', 'route', 'add', Destination, 'via', NextHop]);
  return name;
}
