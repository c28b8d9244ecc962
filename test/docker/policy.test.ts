// Policies by the labels of Docker's containers, those of Compose among them.
import test from 'ava';

import { bare, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { DockerCluster, pings, pingsNot, start } from './cluster.js';

interface Shown extends EndpointJson {
  labels: Record<string, string>;
}

let lab: DockerCluster;

async function setUp(): Promise<void> {
  lab = await DockerCluster.up();
  await lab.createOnBoth('--subnet', '10.9.0.0/16', 'blue');
}

shareAmongTests(test, setUp, async () => lab?.down());

const labelled = (name: string): Promise<Shown> =>
  lab.until(`the labels of ${name}`, async () => {
    const all = await lab.cluster.json<Shown[]>('h1', 'endpoint', 'ls', '--network', 'blue');
    return all.find(({ target, labels }) => target === `docker:${name}` && Object.keys(labels).length > 0);
  });

test.serial('labels of Docker and Compose select: who may reach a container is what they say', async (t) => {
  const compose = ['--label', 'com.docker.compose.project=shop', '--label', 'com.docker.compose.service=db'];
  await lab.cluster.json(
    ...(['h1', 'policy', 'allow', 'db', '--from', 'role=web'] as const),
    ...['--to', 'com.docker.compose.service=db,com.docker.compose.project=shop'],
  );
  await start(lab.h1, 'web', '--network', 'blue', '--label', 'role=web');
  await start(lab.h2, 'far', '--network', 'blue', '--label', 'role=web');
  await start(lab.h1, 'near', '--network', 'blue', '--label', 'role=none');
  await start(lab.h1, 'db', '--network', 'blue', ...compose);
  const db = await labelled('db');
  t.like(db.labels, { 'com.docker.compose.service': 'db', 'com.docker.compose.project': 'shop' });
  await labelled('far');
  await labelled('near');
  await pings(t, lab.h1, 'web', bare(db.ip));
  await pings(t, lab.h2, 'far', bare(db.ip));
  await pingsNot(t, lab.h1, 'near', bare(db.ip));
  await pings(t, lab.h1, 'db', bare((await labelled('near')).ip));
  const refused = await lab.cluster.weft('h1', 'endpoint', 'update', db.id, '--label', 'role=x');
  t.is(refused.code, 1);
  t.regex(refused.stderr, /labels are those of Docker's container/);
});

test.serial('a container without labels is open once Docker has said that it has none', async (t) => {
  await lab.cluster.json('h1', 'policy', 'allow', 'any', '--from', 'any', '--to', 'never=there');
  await start(lab.h1, 'plain', '--network', 'blue');
  const plain = await lab.until('plain is open once it is known to have no labels', async () => {
    const all = await lab.cluster.json<Shown[]>('h1', 'endpoint', 'ls', '--network', 'blue');
    return all.find(({ target }) => target === 'docker:plain');
  });
  await start(lab.h2, 'asker', '--network', 'blue');
  await pings(t, lab.h2, 'asker', bare(plain.ip));
});
