// Addresses of controllers and etcd, as the firewall closes them.
import test from 'ava';

import { ControlAddresses } from '../../../agent/networks/control-addresses.js';
import { hostPort } from '../../../daemon/kinds.js';
import { silentLogger } from '../../../daemon/log.js';

const place = (text: string) => hostPort({ listen: false }).parse(text, 'a test');

test('addresses of the settings and of the controller, here and elsewhere; each change is told once', async (t) => {
  let changes = 0;
  const control = new ControlAddresses({
    configured: [place('127.0.0.1:7400')],
    log: silentLogger,
    changed: () => {
      changes++;
      return Promise.resolve();
    },
  });
  await control.start();
  t.teardown(() => control.stop());
  t.deepEqual(control.current, [{ ip: '127.0.0.1', port: 7400, here: true }]);
  await control.told(['192.0.2.10:7400', '[2001:db8::10]:2379', '127.0.0.1:7400']);
  t.deepEqual(control.current, [
    { ip: '127.0.0.1', port: 7400, here: true },
    { ip: '192.0.2.10', port: 7400, here: false },
    { ip: '2001:db8::10', port: 2379, here: false },
  ]);
  t.is(changes, 2);
  await control.told(['192.0.2.10:7400', '[2001:db8::10]:2379']);
  t.is(changes, 2);
  await control.told([]);
  t.is(control.current.length, 1);
  t.is(changes, 3);
});
