// The peers' prefixes: the longest one that has an address decides.
export class Prefixes {
  /** By length: from the base address to the peer's address, both as numbers. */
  readonly #byLength = new Map<number, Map<number, number>>();
  #lengths: { mask: number; peers: Map<number, number> }[] = [];
  /** The last answer: packets come in runs. */
  #asked = -1;
  #answer = 0;

  /** @param peer its underlay address; 0: none has the prefix any more */
  set(base: number, length: number, peer: number): void {
    const known = this.#byLength.get(length);
    const peers = known ?? new Map<number, number>();
    if (known === undefined) this.#byLength.set(length, peers);
    if (peer === 0) peers.delete(base);
    else peers.set(base, peer);
    this.#asked = -1;
    this.#lengths = [...this.#byLength]
      .filter(([, some]) => some.size > 0)
      .toSorted(([a], [b]) => b - a)
      .map(([bits, some]) => ({ mask: bits === 0 ? 0 : (-1 << (32 - bits)) >>> 0, peers: some }));
  }

  clear(): void {
    this.#byLength.clear();
    this.#lengths = [];
    this.#asked = -1;
  }

  /** The peer that has the address; 0: none. */
  peerOf(ip: number): number {
    if (ip === this.#asked) return this.#answer;
    this.#asked = ip;
    this.#answer = 0;
    for (const { mask, peers } of this.#lengths) {
      const peer = peers.get((ip & mask) >>> 0);
      if (peer === undefined) continue;
      this.#answer = peer;
      break;
    }
    return this.#answer;
  }
}
