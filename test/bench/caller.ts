// The client that attaches, in a process of its own, as a command is.
//
// Its times exclude the work of the bench meanwhile, above all the cost of starting processes, which copies page tables.
import { credentials } from '@grpc/grpc-js';

import { clientOptions } from '../../daemon/grpc.js';
import { AgentServiceClient } from '../../proto/gen/weft/v1/agent.js';

const [, , socket = '', network = ''] = process.argv;
const client = new AgentServiceClient(`unix:${socket}`, credentials.createInsecure(), clientOptions);

/** Attaches each target that it receives, and answers with the milliseconds it took or the error. */
process.on('message', (target: string) => {
  const request = {
    network,
    target,
    aliases: [],
    noDefaultRoute: false,
    publish: [],
    dns: false,
    publishEverywhere: false,
    allowedAddresses: [],
  };
  const began = performance.now();
  client.attach(
    { ...request, name: undefined, ip: undefined, ip6: undefined, mac: undefined, ifname: undefined },
    (error) => {
      const took = performance.now() - began;
      process.send?.(error === null ? took : error.message);
    },
  );
});
process.on('disconnect', () => client.close());
