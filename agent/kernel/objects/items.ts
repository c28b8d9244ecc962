// The list of codecs of all items, that is, everything but links.
import type { ItemName, ItemObject, ItemOf } from '../../../core/objects/index.js';
import { address } from './address.js';
import { bridgeVlan } from './bridge-vlan.js';
import type { ItemCodec, ItemEvent } from './codec.js';
import { fdb } from './fdb.js';
import { neighbour } from './neighbour.js';
import { port } from './port.js';
import { portMac } from './port-mac.js';
import { proxy } from './proxy.js';
import type { LinkLookup } from './readings.js';
import { pump, pumpPrefix } from './pump.js';
import { route } from './route.js';
import { sysctl } from './sysctl.js';
import { wireguardKey, wireguardPeer, wireguardPrefix } from './wireguard.js';

const CODECS: { readonly [K in ItemName]: ItemCodec<ItemOf<K>> } = {
  port,
  vlan: bridgeVlan,
  address,
  route,
  neighbour,
  proxy,
  fdb,
  'port-mac': portMac,
  'wireguard-key': wireguardKey,
  'wireguard-peer': wireguardPeer,
  'wireguard-prefix': wireguardPrefix,
  pump,
  'pump-prefix': pumpPrefix,
  sysctl,
};

export const itemCodecs: readonly ItemCodec<ItemObject>[] = Object.values(CODECS);

export const itemCodecOf = (item: ItemObject): ItemCodec<ItemObject> => CODECS[item.kind];

const BY_MESSAGE = new Map<number, ItemCodec<ItemObject>[]>();
for (const codec of itemCodecs)
  for (const type of codec.messageTypes ?? []) BY_MESSAGE.set(type, [...(BY_MESSAGE.get(type) ?? []), codec]);

/** The items in a notification; for addresses and routes see decodeAddress and decodeRoute. */
export function* itemEvents(type: number, body: Buffer, lookup: LinkLookup): Iterable<ItemEvent> {
  for (const codec of BY_MESSAGE.get(type) ?? []) yield* codec.events?.(type, body, lookup) ?? [];
}
