// What etcd alone takes to tell of a change: `bare-watcher SOCKET NAME PREFIX URL…`.
//
// A watch on each server, which decodes nothing that is not timed. Of an arrival at several servers the last counts.
import { Etcd3, type IEvent } from 'etcd3';

import { monotonic } from '../../lab/meter-end.js';
import { answerAt } from './answering.js';
import { Counts, nameMark, type Answer, type Mark, type Request } from './messages.js';

const [, , path = '', name = '', prefix = '', ...urls] = process.argv;
/** By mark, then by server. */
let marks = new Map<Mark, Map<string, number>>();
/** Of the first server. */
let counts = new Counts();

const KEY = /\/networks\/([^/]+)\/(subnets|endpoints)\/([^/]+)$/;

function heard(url: string, { type, kv }: IEvent): void {
  const now = monotonic();
  const [, network = '', area, last = ''] = KEY.exec(kv.key.toString()) ?? [];
  if (area === undefined) return;
  const isPut = type === 'Put';
  if (area === 'endpoints' && url === urls[0]) {
    if (!isPut) counts.add(network, last, 'vanished');
    else if (Number(kv.version) === 1) counts.add(network, last, 'appeared');
  }
  if (!isPut || marks.size === 0) return;
  const mark =
    area === 'subnets'
      ? last.replace('-', '/')
      : nameMark(network, (JSON.parse(kv.value.toString()) as { name: string }).name);
  marks.get(mark)?.set(url, now);
}

async function watch(url: string): Promise<void> {
  const etcd = new Etcd3({ hosts: url });
  const watcher = await etcd.watch().prefix(`${prefix}/`).create();
  watcher.on('data', ({ events }) => {
    for (const event of events) heard(url, event);
  });
}

async function answer(request: Request): Promise<Answer> {
  await Promise.resolve();
  switch (request.do) {
    case 'mark':
      marks = new Map(request.marks.map((mark) => [mark, new Map()]));
      return {};
    case 'arrivals':
      return {
        arrivals: Object.fromEntries([...marks].map(([mark, at]) => [mark, [Math.max(...at.values())]])),
      };
    case 'count':
      counts = new Counts();
      return {};
    case 'counts':
      return { counts: Object.fromEntries(counts.networks.map((network) => [counts.textOf(network), 1])) };
    case 'start':
    case 'restart':
    case 'attach':
    case 'churn':
      throw new Error(`a watcher does not ${request.do}`);
  }
}

await Promise.all(urls.map(watch));
answerAt(path, name, answer);
