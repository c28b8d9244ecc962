// The list of codecs of everything but links.
import type { ItemName, ItemObject, ItemOf } from '../../../core/objects/index.js';
import { address } from './address.js';
import { bridgeVlan } from './bridge-vlan.js';
import type { ItemCodec, Told } from './codec.js';
import { fdb } from './fdb.js';
import { neighbour } from './neighbour.js';
import { port } from './port.js';
import { proxy } from './proxy.js';
import type { LinkLookup } from './readings.js';
import { route } from './route.js';
import { sysctl } from './sysctl.js';

const CODECS: { readonly [K in ItemName]: ItemCodec<ItemOf<K>> } = {
  port,
  vlan: bridgeVlan,
  address,
  route,
  neighbour,
  proxy,
  fdb,
  sysctl,
};

export const itemCodecs: readonly ItemCodec<ItemObject>[] = Object.values(CODECS);

export const itemCodecOf = (item: ItemObject): ItemCodec<ItemObject> => CODECS[item.kind];

const TOLD_BY = new Map<number, ItemCodec<ItemObject>[]>();
for (const codec of itemCodecs)
  for (const type of codec.toldBy ?? []) TOLD_BY.set(type, [...(TOLD_BY.get(type) ?? []), codec]);

/** What a notification says of items; of addresses and routes see decodeAddress and decodeRoute. */
export function* toldOf(type: number, body: Buffer, lookup: LinkLookup): Iterable<Told> {
  for (const codec of TOLD_BY.get(type) ?? []) yield* codec.told?.(type, body, lookup) ?? [];
}
