// A TCP proxy on loopback whose connections a test can cut, stall or refuse.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Proxy {
  url: string;
  /** Bytes from the server so far. */
  readonly received: number;
  /** Resets every connection; new ones pass. */
  cut(): void;
  /** Resets new connections while `refused`. */
  refuse(refused: boolean): void;
  /** Keeps connections open without passing data while `stalled`. */
  stall(stalled: boolean): void;
  /**
   * Settles when the server has answered this many more times; the last answer is dropped, and so is everything after
   * it, in either direction.
   */
  dieAtAnswer(count: number): Promise<void>;
  close(): Promise<void>;
}

export async function startProxy(port: number): Promise<Proxy> {
  const pairs = new Set<[Socket, Socket]>();
  let refused = false;
  let stalled = false;
  let received = 0;
  let answersLeft = Infinity;
  let died: () => void = () => undefined;
  const server = createServer((inner) => {
    if (refused) {
      inner.destroy();
      return;
    }
    const outer = connect(port, '127.0.0.1');
    const pair: [Socket, Socket] = [inner, outer];
    pairs.add(pair);
    const pipe = (from: Socket, to: Socket): void => {
      from.on('data', (data) => {
        if (from === outer) received += data.length;
        if (from === outer && --answersLeft <= 0) {
          refused = true;
          cut();
          died();
        } else void to.write(data);
      });
      from.on('error', () => undefined);
      from.on('close', () => {
        to.destroy();
        pairs.delete(pair);
      });
      if (stalled) from.pause();
    };
    pipe(inner, outer);
    pipe(outer, inner);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (): void => {
    for (const [inner, outer] of [...pairs]) {
      inner.resetAndDestroy();
      outer.resetAndDestroy();
    }
  };
  return {
    get received() {
      return received;
    },
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut,
    refuse: (now) => {
      refused = now;
    },
    stall: (now) => {
      stalled = now;
      for (const pair of pairs)
        for (const socket of pair)
          if (now) socket.pause();
          else socket.resume();
    },
    dieAtAnswer: (count) => {
      answersLeft = count;
      return new Promise((resolve) => (died = resolve));
    },
    close: async () => {
      server.close();
      cut();
      await once(server, 'close');
    },
  };
}
