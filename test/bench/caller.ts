// The client that attaches, in a process of its own, as a command is.
//
// Its times exclude the work of the bench meanwhile, above all the cost of starting processes, which copies page tables. It asks
// by HTTP or by gRPC, each on one connection.
import { Agent, request as httpRequest } from 'node:http';

import { credentials } from '@grpc/grpc-js';

import { messageOf } from '../../core/errors.js';
import { clientOptions } from '../../daemon/grpc.js';
import { AgentServiceClient } from '../../proto/gen/weft/v1/agent.js';

const [, , socketPath = '', network = '', labels = '{}'] = process.argv;
const client = new AgentServiceClient(`unix:${socketPath}`, credentials.createInsecure(), clientOptions);
const agent = new Agent({ keepAlive: true });

interface Call {
  way: 'http' | 'grpc';
  target: string;
}

const requestOf = (target: string) => ({
  ...{ network, target, aliases: [], noDefaultRoute: false, publish: [], dns: false },
  ...{ publishEverywhere: false, allowedAddresses: [], labels: JSON.parse(labels) as Record<string, string> },
  ...{ name: undefined, ip: undefined, ip6: undefined, mac: undefined, ifname: undefined },
});

const byGrpc = (target: string): Promise<void> =>
  new Promise((resolve, reject) => {
    client.attach(requestOf(target), (error) => {
      if (error === null) resolve();
      else reject(error);
    });
  });

const byHttp = (target: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const call = httpRequest({ socketPath, agent, path: '/attach', method: 'POST' }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => {
        if (response.statusCode === 200 && JSON.parse(text) !== null) resolve();
        else reject(new Error(text));
      });
    });
    call.on('error', reject);
    call.end(JSON.stringify(requestOf(target)));
  });

/** Attaches each target that it receives, and answers with the milliseconds it took or the error. */
process.on('message', ({ way, target }: Call) => {
  const began = performance.now();
  (way === 'http' ? byHttp : byGrpc)(target).then(
    () => process.send?.(performance.now() - began),
    (error: unknown) => process.send?.(messageOf(error)),
  );
});
process.on('disconnect', () => {
  client.close();
  agent.destroy();
});
