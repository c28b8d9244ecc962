// Writes many endpoints of a nonexistent node into etcd, as its agent would.
//
// Started where etcd is.
import { openStore } from '../../store/etcd-store.js';

const [, , etcd = '', network = '', node = '', count = '0', alive = ''] = process.argv;
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
    await store.putEndpoint(
      {
        ...{ id: n.toString(16).padStart(16, '0'), name: `many-${n}`, explicitName: false, network, node },
        ...{
          target: `pid:${n + 1}`,
          sandbox: { path: `/proc/${n + 1}/ns/net`, cookie: '1', bootId: 'none' },
        },
        ...{ ifname: 'eth0', hostIfname: 'wfepnone', mac: '02:00:00:00:00:2a', defaultRoute: false },
        ip: `10.100.${200 + (n >> 8)}.${n & 0xff}/24`,
        labels: { app: `${n % 1000}` },
        ...{ aliases: ['crowd'], publish: [], manager: 'weft', createdAt: '' },
      },
      { unique: false },
    );
  }
}
await Promise.all(Array.from({ length: 32 }, worker));
if (alive !== '') {
  // It counts as up as long as this runs.
  const record = { name: node, instance: 'none', publicIp: '192.0.2.200', version: '', startedAt: '' };
  store.announce(() => record, { ttlSeconds: 3, onConflict: quiet });
  process.stdout.write('filled\n');
  await new Promise(() => setInterval(quiet, 1000));
}
await store.close();
