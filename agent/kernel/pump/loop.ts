// The pump's loop: packets from the device to peers, and from peers to the device.
//
// Synchronous and for ever: it waits in poll(2), and Node.js' own loop never runs. A signal ends the process as the kernel does.
import { closeSync } from 'node:fs';

import { addressOf } from '../libc.js';
import { Batch, BATCH, SLOT } from './batch.js';
import { errno, failed, poll, read, receiveMany, sendMany, write } from './calls.js';
import { writeCounters, type PumpCounters } from './counters.js';
import type { PeerRoutes } from './peer-routes.js';
import type { Prefixes } from './prefixes.js';

export interface Pump {
  tun: number;
  socket: number;
  port: number;
  prefixes: Prefixes;
  routes: PeerRoutes;
  counters: PumpCounters;
  /** Where the counters are written. */
  file: string;
}

// include/uapi/asm-generic/poll.h
const POLLIN = 1;
const POLLERR = 8;
const EINTR = 4;
const EBADFD = 77;

/** How often the counters are written, in milliseconds. */
const WRITE_MS = 1000;

/** Offsets in an IPv4 header, and its least length (RFC 791 §3.1). */
const SOURCE = 12;
const DESTINATION = 16;
const HEADER = 20;

/** Ends when the device is deleted. @throws SystemError */
export function runPump(pump: Pump): void {
  const { tun, socket, routes, counters, file } = pump;
  const [out, back] = [new Batch(pump.port), new Batch(pump.port)];
  const polls = Buffer.alloc(24);
  const events = new Uint16Array(polls.buffer, polls.byteOffset, 12);
  for (const [i, fd] of [tun, socket, routes.fd].entries()) {
    polls.writeInt32LE(fd, i * 8);
    polls.writeUInt16LE(POLLIN, i * 8 + 4);
  }
  const address = addressOf(polls);
  let writtenAt = 0;
  let counted = 0;
  let isBusy = false;
  for (;;) {
    const total = counters.sent + counters.received + droppedIn(counters);
    const now = performance.now();
    if (total !== counted && now - writtenAt >= WRITE_MS) {
      writeCounters(file, counters);
      [writtenAt, counted] = [now, total];
    }
    const wait = isBusy ? 0 : total === counted ? -1 : Math.ceil(writtenAt + WRITE_MS - now);
    if (poll(address, 3, wait) < 0 && errno() !== EINTR) failed('poll');
    const [fromTun = 0, fromSocket = 0, fromRoutes = 0] = [events[3], events[7], events[11]];
    if ((fromTun & POLLERR) !== 0) return closeSync(tun);
    if (fromRoutes !== 0) routes.update();
    const sent = fromTun === 0 ? 0 : sendAll(pump, out);
    if (sent < 0) return closeSync(tun);
    const received = fromSocket === 0 ? 0 : receiveAll(pump, back);
    // There may be more.
    isBusy = sent === BATCH || received === BATCH;
  }
}

const droppedIn = ({ dropped }: PumpCounters): number =>
  dropped.foreign + dropped.unreachable + dropped.malformed + dropped.refused;

/** @returns how many packets were there; below 0: the device is gone */
function sendAll({ tun, socket, prefixes, counters }: Pump, batch: Batch): number {
  const { bytes } = batch;
  const { dropped } = counters;
  let packets = 0;
  let messages = 0;
  for (; packets < BATCH; packets++) {
    const length = read(tun, batch.address(messages), SLOT);
    if (length < 0 && errno() === EBADFD) return -1;
    if (length < 0) break;
    const at = messages * SLOT;
    if (!isIpv4(bytes, at, length)) {
      dropped.malformed++;
      continue;
    }
    const peer = prefixes.peerOf(bytes.readUInt32BE(at + DESTINATION));
    if (peer === 0) {
      dropped.unreachable++;
      continue;
    }
    batch.setLength(messages, length);
    batch.setPeer(messages, peer);
    messages++;
  }
  for (let from = 0; from < messages;) {
    const count = sendMany(socket, batch.messages(from), messages - from);
    if (count > 0) {
      counters.sent += count;
      from += count;
    } else {
      // The first of them could not be sent: the peer's address has no route now, for one.
      dropped.refused++;
      from++;
    }
  }
  return packets;
}

/** @returns how many datagrams were there */
function receiveAll({ tun, socket, prefixes, counters }: Pump, batch: Batch): number {
  const { bytes } = batch;
  const { dropped } = counters;
  const count = receiveMany(socket, batch.messages(0), BATCH);
  for (let i = 0; i < count; i++) {
    const at = i * SLOT;
    const length = batch.received(i);
    if (!isIpv4(bytes, at, length)) dropped.malformed++;
    else if (prefixes.peerOf(bytes.readUInt32BE(at + SOURCE)) !== batch.peer(i)) dropped.foreign++;
    else if (write(tun, batch.address(i), length) < 0) dropped.refused++;
    else counters.received++;
  }
  return count;
}

const isIpv4 = (bytes: Buffer, at: number, length: number): boolean =>
  length >= HEADER && (bytes[at] ?? 0) >> 4 === 4;
