// Both ends of a flow, run inside namespaces: as much as goes through in a time, by calls that cost next to nothing.
//
// `receive tcp|udp PORT` and `send tcp|udp IP PORT SECONDS`. Node's own sockets would be what is measured: these block in the
// kernel's send, and hand over 64 datagrams with one call.
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const c = {
  socket: libc.func('int socket(int domain, int type, int protocol)'),
  bind: libc.func('int bind(int fd, const uint8_t *address, uint32_t length)'),
  listen: libc.func('int listen(int fd, int backlog)'),
  accept: libc.func('int accept(int fd, void *address, void *length)'),
  connect: libc.func('int connect(int fd, const uint8_t *address, uint32_t length)'),
  setsockopt: libc.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)'),
  send: libc.func('int64_t send(int fd, const uint8_t *buffer, size_t length, int flags)'),
  recv: libc.func('int64_t recv(int fd, void *buffer, size_t length, int flags)'),
  sendmmsg: libc.func('int sendmmsg(int fd, const uint8_t *messages, uint32_t count, int flags)'),
  recvmmsg: libc.func(
    'int recvmmsg(int fd, const uint8_t *messages, uint32_t count, int flags, void *timeout)',
  ),
};

const AF_INET = 2;
const SOCK = { tcp: 1, udp: 2 } as const;
type Protocol = keyof typeof SOCK;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const MSG_WAITFORONE = 0x10000;

/** Datagrams of one call, and the bytes of each. */
const BATCH = 64;
const DATAGRAM = 64;
const CHUNK = 262_144;
/** sizeof(struct mmsghdr), sizeof(struct iovec). */
const MMSGHDR = 64;
const IOVEC = 16;
/** A receiver ends when nothing has come for so long. */
const SILENCE_S = 1;

const say = (fields: object): void => console.log(JSON.stringify(fields));

/** struct sockaddr_in. */
function addressOf(ip: string, port: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ip.split('.').map(Number), 4);
  return bytes;
}

/** An array of struct mmsghdr, each with one datagram. The buffers must live as long as it is used. */
function messages(): { headers: Buffer; keep: Buffer[] } {
  const headers = Buffer.alloc(BATCH * MMSGHDR);
  const vectors = Buffer.alloc(BATCH * IOVEC);
  const payload = Buffer.alloc(BATCH * DATAGRAM);
  for (let i = 0; i < BATCH; i++) {
    vectors.writeBigUInt64LE(koffi.address(payload) + BigInt(i * DATAGRAM), i * IOVEC);
    vectors.writeBigUInt64LE(BigInt(DATAGRAM), i * IOVEC + 8);
    headers.writeBigUInt64LE(koffi.address(vectors) + BigInt(i * IOVEC), i * MMSGHDR + 16);
    headers.writeBigUInt64LE(1n, i * MMSGHDR + 24);
  }
  return { headers, keep: [vectors, payload] };
}

function receive(protocol: Protocol, port: number): void {
  const fd = c.socket(AF_INET, SOCK[protocol], 0) as number;
  if ((c.bind(fd, addressOf('0.0.0.0', port), 16) as number) < 0) throw new Error(`bind ${port}`);
  if (protocol === 'tcp') c.listen(fd, 1);
  say({ listening: port });
  const from = protocol === 'tcp' ? (c.accept(fd, null, null) as number) : fd;
  const count = protocol === 'tcp' ? receiveBytes(from) : receiveDatagrams(from);
  say(count);
}

function receiveBytes(fd: number): object {
  const buffer = Buffer.alloc(4 * CHUNK);
  const began = performance.now();
  for (let bytes = 0; ;) {
    const got = Number(c.recv(fd, buffer, buffer.length, 0));
    if (got <= 0) return { bytes, seconds: (performance.now() - began) / 1000 };
    bytes += got;
  }
}

function receiveDatagrams(fd: number): object {
  const { headers, keep } = messages();
  // Waits for the first as long as it takes.
  let packets = c.recvmmsg(fd, headers, BATCH, MSG_WAITFORONE, null) as number;
  const began = performance.now();
  const timeout = Buffer.alloc(16);
  timeout.writeBigInt64LE(BigInt(SILENCE_S), 0);
  c.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
  for (let last = began; keep.length > 0;) {
    const got = c.recvmmsg(fd, headers, BATCH, MSG_WAITFORONE, null) as number;
    if (got <= 0) return { packets, seconds: (last - began) / 1000 };
    packets += got;
    last = performance.now();
  }
  return {};
}

function send(protocol: Protocol, ip: string, port: number, seconds: number): void {
  const fd = c.socket(AF_INET, SOCK[protocol], 0) as number;
  if ((c.connect(fd, addressOf(ip, port), 16) as number) < 0) throw new Error(`connect ${ip}:${port}`);
  const { headers, keep } = messages();
  const chunk = Buffer.alloc(CHUNK);
  const end = performance.now() + seconds * 1000;
  while (keep.length > 0 && performance.now() < end)
    if (protocol === 'tcp') c.send(fd, chunk, chunk.length, 0);
    else c.sendmmsg(fd, headers, BATCH, 0);
}

const [what, protocol = 'tcp', ...words] = process.argv.slice(2);
if (what === 'receive') receive(protocol as Protocol, Number(words[0]));
else send(protocol as Protocol, words[0] ?? '', Number(words[1]), Number(words[2]));
