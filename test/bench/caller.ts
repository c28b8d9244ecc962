// The one who attaches, in a process of its own, as a command is: what the bench does meanwhile (starting processes above
// all, which costs the one that starts them its page tables) is not in its times.
import { credentials } from '@grpc/grpc-js';

import { clientOptions } from '../../daemon/grpc.js';
import { AgentServiceClient } from '../../proto/gen/weft/v1/agent.js';

const [, , socket = '', network = ''] = process.argv;
const client = new AgentServiceClient(`unix:${socket}`, credentials.createInsecure(), clientOptions);

/** Told a target, attaches it and answers how long that took, in milliseconds, or what went wrong. */
process.on('message', (target: string) => {
  const request = {
    network,
    target,
    aliases: [],
    noDefaultRoute: false,
    publish: [],
    dns: false,
    publishEverywhere: false,
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
