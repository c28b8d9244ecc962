// Writes many policies into etcd, as a controller would: each lets the containers of one application speak to each other.
//
// Started where etcd is.
import { parsePolicy } from '../../core/policy/index.js';
import { openStore } from '../../store/etcd-store.js';

const [, , etcd = '', count = '0', open = ''] = process.argv;
const quiet = (): void => undefined;
const store = openStore({
  endpoints: [etcd],
  prefix: '/weft',
  log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
});
await store.synced(AbortSignal.timeout(10_000));
const numbers = Array.from({ length: Number(count) }, (_, n) => n).values();

async function worker(): Promise<void> {
  for (const n of numbers) {
    const app = `app=${n}`;
    // One of them allows every port.
    const ports = `${n}` === open ? [] : ['tcp/80', `udp/${1000 + n}`];
    await store.createPolicy(parsePolicy({ name: `p${n}`, from: [app], to: [app], ports }));
  }
}
await Promise.all(Array.from({ length: 32 }, worker));
await store.close();
